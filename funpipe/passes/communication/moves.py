"""What a new order of nodes has to keep, and the two moves that passes are made of: `soon` and `late`."""

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise

from funpipe.graphs import Graph, Node
from funpipe.graphs.bound import bound
from funpipe.graphs.communication import channels, is_communication
from funpipe.graphs.effects import draws
from funpipe.graphs.order import by_data_flow, chain, keep_bound, predecessors

Before = dict[str, set[str]]
"""For each node the nodes that must run before it."""


def kept_order(graph: Graph, *, reorders: bool = False) -> Before:
    """What every new order of a graph has to keep.

    Args:
        graph: the graph.
        reorders: whether starts of one channel may change places, where all its ranks run this graph.

    Returns:
        For each node those before it: makers of what it reads, its channel, nodes that are bound, random operators.
    """
    before = predecessors(graph.nodes)
    held = bound(graph)
    if reorders:
        for names in channels(graph).values():
            for first, second in pairwise(names):
                if second not in held:
                    before[second].discard(first)
    keep_bound(graph, before)
    chain(before, (node.name for node in graph.nodes if draws(node)))
    return before


def soon(graph: Graph, chosen: Callable[[Node], bool], before: Before) -> Graph:
    """Each chosen node right behind the last that must run before it; the others keep their order.

    A chosen node that nothing must run before stands in front of its first reader, instead of at the begin.

    Args:
        graph: the graph.
        chosen: which nodes move.
        before: what has to be kept, as `kept_order` gives it, and more.
    """
    moved = graph.replace(nodes=tuple(by_data_flow(graph.nodes, before, _first(graph, chosen))))
    free = {n.name for n in graph.nodes if chosen(n) and not before[n.name] and not is_communication(n)}
    return late(moved, lambda node: node.name in free, before) if free else moved


def late(graph: Graph, chosen: Callable[[Node], bool], before: Before) -> Graph:
    """Each chosen node right in front of the first that must run behind it, or at the end; the others keep their order.

    Args:
        graph: the graph.
        chosen: which nodes move.
        before: what has to be kept.
    """
    backwards = by_data_flow(graph.nodes[::-1], turned(before), _first(graph, chosen))
    return graph.replace(nodes=tuple(reversed(backwards)))


def _first(graph: Graph, chosen: Callable[[Node], bool]) -> Callable[[Node, int], float]:
    """A key that puts chosen nodes in front of all others, and communication in front of those."""
    count = len(graph.nodes)
    return lambda node, at: at - count * (1 + is_communication(node)) if chosen(node) else at


def turned(before: Mapping[str, Iterable[str]]) -> Before:
    """For each node those that must run behind it.

    Args:
        before: for each node those that must run before it.
    """
    after: Before = {name: set() for name in before}
    for name, needed in before.items():
        for other in needed:
            after[other].add(name)
    return after
