"""What every pass must keep of a graph."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from funpipe._errors import GraphError, PassError
from funpipe._typing import TensorType, rows
from funpipe.graphs import Graph, Ref, check
from funpipe.graphs.bound import bound, is_pipelined
from funpipe.graphs.check import in_flight
from funpipe.graphs.communication import channels
from funpipe.graphs.text import type_text
from funpipe.passes.base import Pass
from funpipe.passes.types import wrong_type


def verify(before: Graph, after: Graph, each: Pass) -> None:
    """Raises unless a graph still is one, takes and gives the same, and keeps the order of its collectives.

    A pass that reorders must still keep what other ranks of a pipeline rely on, all of it and in its order.

    Args:
        before: what the pass was given.
        after: what it made.
        each: the pass.

    Raises:
        PassError: it is not; the text names the pass and what it broke.

    Example:
        >>> from funpipe.passes.communication.example import example
        >>> graph = example()
        >>> verify(graph, graph.replace(outputs={}), Pass("empty", lambda graph: graph))
        Traceback (most recent call last):
        funpipe._errors.PassError: the pass 'empty' changed the outputs, from 'state.1' on: keep names and order.
    """
    try:
        check(after)
    except GraphError as error:
        raise PassError(f"the pass {each.name!r} made a graph that is none: {error}") from error
    _require_same(each, "inputs", _types(before, before.inputs), _types(after, after.inputs))
    _require_same(each, "outputs", _outputs(before), _outputs(after))
    if not each.reorders:
        _require_order(each, before, after)
    _require_bound(each, before, after)
    _require_types(each, before, after)


def _types(graph: Graph, names: Iterable[str]) -> dict[str, str]:
    return {name: type_text(graph.type_of(name)) for name in names}


def _outputs(graph: Graph) -> dict[str, str]:
    """What each output is: shape, dtype, device, and whether it is there; a constant as it is written."""
    flying = in_flight(graph)
    return {name: _described(graph, value, flying) for name, value in graph.outputs.items()}


def _described(graph: Graph, value: Any, flying: frozenset[str]) -> str:
    if not isinstance(value, Ref):
        return repr(value)
    kind = graph.type_of(value.name)
    text = type_text(replace(kind, stride=rows(kind.shape)) if isinstance(kind, TensorType) else kind)
    return f"{text} on its way" if value.name in flying else text


def _require_same(each: Pass, what: str, before: dict[str, str], after: dict[str, str]) -> None:
    if before == after:
        return
    if list(before) != list(after):
        changed = sorted(set(before) ^ set(after)) or [n for n, m in zip(before, after, strict=True) if n != m]
        raise PassError(f"the pass {each.name!r} changed the {what}, from {changed[0]!r} on: keep names and order.")
    name = next(n for n in before if before[n] != after[n])
    raise PassError(
        f"the pass {each.name!r} made {name!r} of the {what} {after[name]}, and it was {before[name]}: keep its type."
    )


def _require_types(each: Pass, before: Graph, after: Graph) -> None:
    """Each node that the pass has made gives what its type says."""
    wrong = wrong_type(before, after)
    if wrong is not None:
        node, found = wrong
        raise PassError(
            f"the pass {each.name!r} gave {node.where} the type {type_text(node.type)}, and it gives "
            f"{type_text(found)}: set type= of a node that calls another operator, or reads other values."
        )


def _require_order(each: Pass, before: Graph, after: Graph) -> None:
    """Of the collectives that are still there, those of one channel are in the order in which they were."""
    old, new = channels(before), channels(after)
    for channel, names in old.items():
        left = set(new.get(channel, ())).intersection(names)
        kept = [name for name in names if name in left]
        now = [name for name in new.get(channel, ()) if name in left]
        if kept != now:
            first = next(k for k, n in zip(kept, now, strict=True) if k != n)
            raise PassError(
                f"the pass {each.name!r} changed the order of collectives on {channel!r}, from {first!r} on: keep it, "
                "or say reorders=True if the new order is the same on all ranks."
            )


def _require_bound(each: Pass, before: Graph, after: Graph) -> None:
    """What other ranks rely on one by one is still there, in the order in which it was."""
    old, new = _bound_nodes(before), _bound_nodes(after.replace(pipelined=is_pipelined(before)))
    if old == new:
        return
    first = next(k for k, n in zip_longest(old, new) if k != n) or new[len(old)]
    raise PassError(
        f"the pass {each.name!r} moved, added or removed what other stages of the pipeline take part in, from "
        f"{first!r} on: keep messages, and collectives on 'pp' and 'world', as they are."
    )


def _bound_nodes(graph: Graph) -> list[str]:
    held = bound(graph)
    return [node.name for node in graph.nodes if node.name in held]
