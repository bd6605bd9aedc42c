"""Waits move down: nothing waits for a transfer before somebody reads what it brings.

p2 = all_reduce(g2)             p2 = all_reduce(g2)
w2 = wait_tensor(p2)            g1 = mm(...)             (the transfer of g2 overlaps it)
g1 = mm(...)              →     w2 = wait_tensor(p2)
u2 = sub(x2, w2)                u2 = sub(x2, w2)
"""

from functools import partial

from funpipe.graphs import Graph
from funpipe.graphs.communication import is_wait
from funpipe.passes.base import Pass
from funpipe.passes.communication.cost_model import StepCosts, costs_or_default
from funpipe.passes.communication.light import followers
from funpipe.passes.communication.moves import kept_order, late, soon
from funpipe.passes.communication.timeline import timeline


def sink_waits(costs: StepCosts | None = None) -> Pass:
    """Moves each wait to right in front of the first node that reads what it gives.

    What needs nothing but waits and costs next to nothing (a division, a view, the parts of a bucket) moves with them.

    Args:
        costs: predicts when transfers end; a wait then stands no later than the first place at which its transfer is
            over, so that what was sent is let go earlier. None: the wait stays with its reader.

    Returns:
        The pass; it takes no time from any rank, since a wait that moves down waits less.

    Raises:
        PassError: costs are none.

    Example:
        >>> from funpipe.passes.communication.example import example
        >>> print(*[node.name for node in sink_waits()(example()).nodes])
        g2 g1 p2 p1 w2 u2 w1 u1
    """
    given = None if costs is None else costs_or_default(costs)
    return Pass("sink_waits", partial(_sunk, costs=given), repeats=True)


def _sunk(graph: Graph, costs: StepCosts | None) -> Graph:
    behind = followers(graph)
    before = kept_order(graph)
    sunk = late(graph, lambda node: is_wait(node) or node.name in behind, before)
    return sunk if costs is None else _at_the_end_of_transfers(sunk, before, costs)


def _at_the_end_of_transfers(graph: Graph, before: dict[str, set[str]], costs: StepCosts) -> Graph:
    """Each wait behind the first node at whose end its transfer is over, if that is further up."""
    run, at = timeline(graph, costs), graph.positions
    anchored = {name: set(needed) for name, needed in before.items()}
    for wait, start in run.started.items():
        anchor = run.first_at(run.transfers[start][1])
        behind = at[wait] - 1 if anchor is None else min(at[wait] - 1, at[anchor])
        anchored[wait].add(graph.nodes[behind].name)
    return soon(graph, lambda node: node.name in run.started, anchored)
