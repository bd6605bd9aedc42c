"""Two graphs that do not wait for each other, as one: their operations, or their compiled pieces, take turns.

Each operation keeps its operands, so what either graph computes is what it computes alone. With `numerics="exact"` the
pieces take turns and are the very ones that the regions call alone: one graph of both would be compiled for each pair
of regions, would have no repeated layers left to share, and would be fused over their border, where bits change.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import fx

from funpipe.stages.costs import Roofline

T = TypeVar("T")


def in_turns(first: Sequence[T], second: Sequence[T], cost: Callable[[T], float]) -> list[T]:
    """Two sequences as one that keeps the order of each and is always about as far in one as in the other.

    Args:
        first: comes first where both are as far.
        second: the other.
        cost: of an element.

    Example:
        >>> in_turns(["a", "b"], ["x", "y", "z", "u"], lambda name: 1.0)
        ['x', 'a', 'y', 'z', 'b', 'u']
    """
    moments = [*_moments(first, cost), *_moments(second, cost)]
    both = [*first, *second]
    return [both[i] for i in sorted(range(len(both)), key=moments.__getitem__)]


def _moments(items: Sequence[T], cost: Callable[[T], float]) -> list[float]:
    """How much of all its cost a sequence has behind it in the middle of each element."""
    costs = [cost(item) for item in items]
    total, done, found = sum(costs) or 1.0, 0.0, []
    for each in costs:
        found.append((done + each / 2) / total)
        done += each
    return found


def work(graph: fx.Graph) -> float:
    """The cost of a graph, for taking turns."""
    return sum(map(Roofline().node, graph.nodes))


def both(first: fx.Graph, second: fx.Graph) -> fx.GraphModule:
    """One graph of two.

    Args:
        first: flat tensors in, a tuple of tensors out; nodes have `meta["val"]`.
        second: as the first.

    Returns:
        Takes the inputs of the first and of the second, and gives the outputs of both.
    """
    graph, copies, returned = fx.Graph(), {}, []
    for each in (first, second):
        for node in each.find_nodes(op="placeholder"):
            copies[node] = graph.placeholder(f"i{len(copies)}")
            copies[node].meta = dict(node.meta)
        returned += each.find_nodes(op="output")[0].args[0]
    for node in in_turns(_operations(first), _operations(second), Roofline().node):
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(tuple(copies[n] for n in returned))
    return fx.GraphModule({}, graph)


def _operations(graph: fx.Graph) -> list[fx.Node]:
    return [node for node in graph.nodes if node.op not in ("placeholder", "output")]
