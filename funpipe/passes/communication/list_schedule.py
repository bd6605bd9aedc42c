"""List scheduling: communication hides behind computation, as far as a cost model and the memory say so.

A rank has one place to compute and one for the transfers of each axis. Whenever it is free it takes, of the nodes that
can run, the one with the longest way to the end of the step behind it, transfers included. A start takes no time and
runs as soon as it can; a wait runs when its transfer is over.

Source: Graham, "Bounds on Multiprocessing Timing Anomalies" (1969): list scheduling; Hu, "Parallel Sequencing and
Assembly Line Problems" (1961): longest way first.
"""

from collections.abc import Mapping
from functools import partial

from funpipe._errors import PassError
from funpipe.graphs import Graph, Node
from funpipe.graphs.bound import is_pipelined
from funpipe.graphs.communication import axis_of, is_communication, is_start, is_wait
from funpipe.passes.base import Pass
from funpipe.passes.communication.cost_model import StepCosts, collective_bytes, costs_or_default
from funpipe.passes.communication.light import feeders, followers
from funpipe.passes.communication.list_order import List
from funpipe.passes.communication.moves import Before, kept_order, late, soon, turned
from funpipe.passes.communication.peak import peak_bytes
from funpipe.passes.communication.timeline import timeline


def schedule(costs: StepCosts | None = None, growth: float = 0.1) -> Pass:
    """Puts the nodes in the order that is predicted to be fastest, of those that the memory allows.

    Objective: the least predicted length of the step, which for given nodes is the least exposed communication, among
    orders whose peak of live bytes is at most `1 + growth` times that of the given order. Looked at are the given
    order, the same with starts up and waits down, and two list schedules: the longest way first, and the given order
    wherever it does not wait. Starts of one channel keep their order; `bucket` puts them in that of readiness.

    In a pipelined graph, whose order is that of its schedule, starts and waits alone move.

    Args:
        costs: the time of a node and of a collective; `RooflineStep()` by default.
        growth: how much the peak may grow, as a part of it.

    Returns:
        The pass. By its costs the result is never slower than what it was given.

    Raises:
        PassError: growth is negative, or costs are none.

    Example:
        >>> from funpipe.passes.communication.example import example
        >>> print(*[node.name for node in schedule(growth=0.5)(example()).nodes])
        g2 p2 g1 p1 w2 u2 w1 u1
    """
    if growth < 0:
        raise PassError(f"schedule: growth={growth} asks for less memory than the given order takes: pass 0 or more.")
    fn = partial(_scheduled, costs=costs_or_default(costs), growth=growth)
    return Pass("schedule", fn, after=("dedupe", "bucket"), repeats=True)


def _scheduled(graph: Graph, costs: StepCosts, growth: float) -> Graph:
    limit = (1 + growth) * peak_bytes(graph)
    priced = _Priced(graph, costs)
    allowed = [order for order in _orders(graph, priced) if order is graph or peak_bytes(order) <= limit]
    return min(allowed, key=lambda order: timeline(order, priced).seconds)


class _Priced:
    """Costs of the nodes of one graph, each asked for once."""

    def __init__(self, graph: Graph, costs: StepCosts) -> None:
        self.collective = costs.collective
        self.seconds = {n.name: costs.node(graph, n) for n in graph.nodes if not is_communication(n)}

    def node(self, graph: Graph, node: Node) -> float:
        """The time of a node."""
        return self.seconds[node.name]


def _orders(graph: Graph, costs: StepCosts) -> list[Graph]:
    """What is looked at; of equally fast ones the first is taken."""
    before, fed, behind = kept_order(graph), feeders(graph), followers(graph)
    up = soon(graph, lambda node: is_start(node) or node.name in fed, before)
    both = late(up, lambda node: is_wait(node) or node.name in behind, before)
    if is_pipelined(graph):
        return [graph, both]
    seconds = _seconds(graph, costs)
    longest = {name: -way for name, way in _ways(graph, before, seconds).items()}
    given = {name: float(at) for name, at in up.positions.items()}
    return [graph, both, *(List(up, before, seconds).ordered(by) for by in (longest, given))]


def _seconds(graph: Graph, costs: StepCosts) -> dict[str, float]:
    """What each node takes; a start as long as its transfer, a wait no time."""
    return {node.name: _time(graph, node, costs) for node in graph.nodes}


def _time(graph: Graph, node: Node, costs: StepCosts) -> float:
    if is_start(node):
        return costs.collective(collective_bytes(graph, node), axis_of(node))
    return 0.0 if is_communication(node) else costs.node(graph, node)


def _ways(graph: Graph, before: Before, seconds: Mapping[str, float]) -> dict[str, float]:
    """The longest way from the begin of each node to the end of the step."""
    after, ways = turned(before), dict[str, float]()
    for node in reversed(graph.nodes):
        ways[node.name] = seconds[node.name] + max((ways[name] for name in after[node.name]), default=0.0)
    return ways
