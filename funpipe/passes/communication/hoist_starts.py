"""Starts move up: a transfer begins as soon as its bytes are there.

g2 = mm(...)                    g2 = mm(...)
g1 = mm(...)                    p2 = all_reduce(g2)
p2 = all_reduce(g2)       →     g1 = mm(...)             (the transfer of g2 overlaps it)
p1 = all_reduce(g1)             p1 = all_reduce(g1)
"""

from funpipe.graphs import Graph
from funpipe.graphs.communication import is_start
from funpipe.passes.base import Pass
from funpipe.passes.communication.light import feeders
from funpipe.passes.communication.moves import kept_order, soon


def hoist_starts() -> Pass:
    """Moves each start to right behind its last input, as far as the order of its channel allows.

    What only starts need and what costs next to nothing (a division, a view) moves with them. Starts keep their order:
    one whose input is ready early waits for those in front of it. `bucket` puts them in the order of readiness.

    Returns:
        The pass. It costs memory: what is sent must stay alive until its wait, and results exist from their start on.

    Example:
        >>> from funpipe.passes.communication.example import example
        >>> print(*[node.name for node in example().nodes])
        g2 g1 p2 p1 w2 w1 u2 u1
        >>> print(*[node.name for node in hoist_starts()(example()).nodes])
        g2 p2 g1 p1 w2 w1 u2 u1
    """
    return Pass("hoist_starts", _hoisted, repeats=True)


def _hoisted(graph: Graph) -> Graph:
    fed = feeders(graph)
    return soon(graph, lambda node: is_start(node) or node.name in fed, kept_order(graph))
