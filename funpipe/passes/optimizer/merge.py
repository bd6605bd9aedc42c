"""Merging updates of equal settings: fewer, larger calls."""

from collections.abc import Mapping
from typing import Any

from funpipe._typing import TensorType
from funpipe.graphs import Graph, closure, sorted_stably
from funpipe.passes.base import Pass
from funpipe.passes.optimizer.calls import UpdateCall, updates
from funpipe.passes.optimizer.lists import joined, rewritten


def merge_updates() -> Pass:
    """Makes one of all updates that differ in their leaves alone: same optimizer, settings, step, dtype and device.

    Leaves come in the order of the graph's inputs. So for every partition, `merge_updates` after `split_updates` gives
    what `merge_updates` alone does, up to the names of the calls. Updates stay apart where one reads what the other
    gives.

    Returns:
        A pass over graphs. Values keep their names.

    Example:
        >>> print(merge_updates())
        merge_updates
    """
    return Pass("merge_updates", _merge, repeats=True)


def _merge(graph: Graph) -> Graph:
    """One group at a time: what may be merged depends on what was."""
    while (found := _next(graph)) is not None:
        graph = sorted_stably(_merged(graph, found))
    return graph


def _next(graph: Graph) -> list[UpdateCall] | None:
    """Updates that may become one, and are not in the order that one would have."""
    calls = updates(graph)
    for i, first in enumerate(calls):
        key = _settings_of(graph, first)
        group, behind = [first], _behind(graph, first)
        for other in calls[i + 1 :]:
            if _settings_of(graph, other) == key and other.name not in behind:
                group.append(other)
                behind |= _behind(graph, other)
        if len(group) > 1 or _order(graph, group) != [(0, i) for i in range(len(first.leaves))]:
            return group
    return None


def _behind(graph: Graph, call: UpdateCall) -> set[str]:
    """What depends on an update."""
    return {node.name for node in closure(graph, [call.name])}


def _settings_of(graph: Graph, call: UpdateCall) -> tuple[Any, ...]:
    """What two updates have in common that may be one."""
    kinds = [graph.type_of(param) for param in call.params]
    places = {(kind.dtype, kind.device) for kind in kinds if isinstance(kind, TensorType)}
    own = {name: _known(graph.objects, name, value) for name, value in call.call.others.items()}
    return call.call.node.target, frozenset(places), tuple(own.items()), tuple(call.slots)


def _known(objects: Mapping[str, Any], name: str, value: Any) -> Any:
    """An optimizer by what it was made from: two that were made alike are the same."""
    settings = getattr(objects.get(value), "settings", None) if name == "optimizer" else None
    return value if settings is None else settings


def _order(graph: Graph, group: list[UpdateCall]) -> list[tuple[int, int]]:
    """The leaves of a merged update, in the order in which their parameters are made."""
    at = {name: i for i, name in enumerate((*graph.inputs, *graph.by_name))}
    leaves = [(at[param], c, i) for c, call in enumerate(group) for i, param in enumerate(call.params)]
    return [(c, i) for _, c, i in sorted(leaves)]


def _merged(graph: Graph, group: list[UpdateCall]) -> Graph:
    calls = [call.call for call in group]
    return rewritten(graph, calls, [joined(calls, _order(graph, group))], "merge_updates")
