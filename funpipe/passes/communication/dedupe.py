"""Equal collectives are done once.

    p = all_reduce(x)                p = all_reduce(x)
    w = wait_tensor(p)               w = wait_tensor(p)
    q = all_reduce(x)        →       u = mul(w, w)
    v = wait_tensor(q)
    u = mul(w, v)

Two are equal if operator and arguments are, and what they take is the same value, or computed by the same operators
from the same values. Where ranks of an axis run other graphs (see `graphs.bound`) nothing is removed. Nor is anything
in a graph that overwrites values, where the same name may stand for another value later.
"""

from collections.abc import Mapping
from typing import Any

from funpipe.graphs import Graph, Node, Ref, map_refs
from funpipe.graphs.bound import bound
from funpipe.graphs.communication import is_message, is_start, is_wait
from funpipe.graphs.dead import eliminate_dead
from funpipe.graphs.effects import draws, writes
from funpipe.passes.base import Pass


def dedupe() -> Pass:
    """Replaces each collective by an equal one in front of it, and drops those whose results nobody reads.

    Returns:
        The pass. The first of equal collectives stays where it is, so that the order of a channel is kept.

    Example:
        >>> from funpipe.graphs import Graph, Ref
        >>> from funpipe.passes.communication.example import example
        >>> graph = example()
        >>> twice = [node.renamed({"g1": "g2"}) for node in graph.nodes]
        >>> print(*[node.name for node in dedupe()(graph.replace(nodes=tuple(twice))).nodes])
        g2 p2 w2 u2 u1
    """
    return Pass("dedupe", _deduped, repeats=True)


def _deduped(graph: Graph) -> Graph:
    if any(map(writes, graph.nodes)):
        return eliminate_dead(graph)
    held, numbers = bound(graph), _numbers(graph)
    names: dict[str, str] = {}
    first: dict[int, str] = {}
    kept: list[Node] = []
    for node in graph.nodes:
        same = first.setdefault(numbers[node.name], node.name)
        if same != node.name and (is_start(node) or is_wait(node)) and node.name not in held:
            names[node.name] = same
        else:
            kept.append(node.renamed(names))
    outputs = map_refs(lambda ref: Ref(names.get(ref.name, ref.name)), graph.outputs)
    return eliminate_dead(graph.replace(nodes=tuple(kept), outputs=outputs))


def _numbers(graph: Graph) -> dict[str, int]:
    """A number for each value; two nodes have the same one if they compute the same."""
    known: dict[Any, int] = {}
    numbers = {name: known.setdefault(name, len(known)) for name in graph.inputs}
    for node in graph.nodes:
        own = node.name if draws(node) or is_message(node) or _is_carried(graph, node) else None
        call = (node.target, own, _frozen(node.args, numbers), _frozen(node.kwargs, numbers))
        numbers[node.name] = known.setdefault(call, len(known))
    return numbers


def _is_carried(graph: Graph, node: Node) -> bool:
    """Whether a later step waits for what a node starts; nobody else may, since it is waited for once."""
    parts = [reader.name for reader in graph.readers(node.name) if not is_wait(reader)]
    return is_start(node) and not graph.returned.isdisjoint([node.name, *parts])


def _frozen(value: Any, numbers: Mapping[str, int]) -> Any:
    """An argument as something hashable; numbers are told apart by type and by how they are written: 1, 1.0, -0.0."""
    if isinstance(value, Ref):
        return numbers[value.name]
    if isinstance(value, list | tuple):
        return (list, *(_frozen(item, numbers) for item in value))
    if isinstance(value, Mapping):
        return (dict, *((key, _frozen(item, numbers)) for key, item in value.items()))
    return (type(value), repr(value))
