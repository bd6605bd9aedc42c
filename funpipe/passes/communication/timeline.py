"""A step in time, as a cost model predicts it.

    compute   g2 ██ g1 ██ ░░ w2 u2 █ ░ w1 u1 █      ░ stands still in a wait: exposed communication
    dp           p2 ██████ p1 ████                  one transfer at a time on an axis, in the order of the starts

Messages of a pipeline take no time here: how long a rank waits for another one is a question for the schedule.
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from funpipe.graphs import Graph, Node
from funpipe.graphs.bound import start_of
from funpipe.graphs.communication import axis_of, is_communication, is_start, is_wait
from funpipe.graphs.graph import require_graph
from funpipe.passes.communication.cost_model import StepCosts, collective_bytes, costs_or_default


@dataclass(frozen=True)
class Timeline:
    """When everything happens, in seconds from the begin of the step.

    Args:
        ends: when each node has run, in order.
        transfers: of each start, when its transfer begins and ends.
        waited: of each wait, how long the rank stands still.
        started: of each wait, the start that it waits for; of an earlier step's none.
    """

    ends: Mapping[str, float]
    transfers: Mapping[str, tuple[float, float]]
    waited: Mapping[str, float]
    started: Mapping[str, str]

    @property
    def seconds(self) -> float:
        """The length of the step."""
        return max(self.ends.values(), default=0.0)

    @property
    def exposed(self) -> float:
        """How long the rank stands still for communication."""
        return sum(self.waited.values())

    @property
    def communication(self) -> float:
        """How long transfers take, overlapped or not."""
        return sum(end - begin for begin, end in self.transfers.values())

    @cached_property
    def _order(self) -> tuple[tuple[str, ...], tuple[float, ...]]:
        return tuple(self.ends), tuple(self.ends.values())

    def first_at(self, time: float) -> str | None:
        """The first node at whose end a time is reached; None if none is.

        Args:
            time: in seconds.
        """
        names, ends = self._order
        at = bisect_left(ends, time)
        return names[at] if at < len(names) else None

    def as_text(self) -> str:
        """One line for each transfer: milliseconds, and how much of it the rank stands still for."""
        total = f"step {1e3 * self.seconds:.3f} ms, exposed {1e3 * self.exposed:.3f} ms"
        stood = dict.fromkeys(self.transfers, 0.0)
        for wait, start in self.started.items():
            stood[start] += self.waited[wait]
        rows = [
            f"{name}  {1e3 * begin:.3f} - {1e3 * end:.3f} ms, exposed {1e3 * stood[name]:.3f} ms"
            for name, (begin, end) in self.transfers.items()
        ]
        return "\n".join([total, *rows])


def timeline(graph: Graph, costs: StepCosts | None = None) -> Timeline:
    """Runs a step in time: nodes one after the other, transfers beside them.

    Args:
        graph: the graph of one rank.
        costs: the time of a node and of a collective; `RooflineStep()` by default.

    Returns:
        When everything happens.

    Example:
        >>> from funpipe.passes.communication.example import example
        >>> from funpipe.passes import RooflineStep
        >>> print(timeline(example(), RooflineStep(link=1e6)).as_text())
        step 32.996 ms, exposed 32.968 ms
        p2  0.014 - 16.498 ms, exposed 16.484 ms
        p1  16.498 - 32.982 ms, exposed 16.484 ms
    """
    require_graph(graph, "timeline")
    run = _Run(graph, costs_or_default(costs))
    for node in graph.nodes:
        run.add(node)
    return Timeline(run.ends, run.transfers, run.waited, run.started)


class _Run:
    """A step on its way: the clock of the rank, and from when on each axis is free."""

    def __init__(self, graph: Graph, costs: StepCosts) -> None:
        self.graph, self.costs = graph, costs
        self.clock, self.free = 0.0, dict[str, float]()
        self.ends: dict[str, float] = {}
        self.transfers: dict[str, tuple[float, float]] = {}
        self.waited: dict[str, float] = {}
        self.started: dict[str, str] = {}

    def add(self, node: Node) -> None:
        """Runs a node."""
        if is_start(node):
            self._start(node)
        elif is_wait(node):
            self._wait(node)
        elif not is_communication(node):
            self.clock += self.costs.node(self.graph, node)
        self.ends[node.name] = self.clock

    def _start(self, node: Node) -> None:
        axis = axis_of(node)
        begin = max(self.clock, self.free.get(axis, 0.0))
        self.free[axis] = begin + self.costs.collective(collective_bytes(self.graph, node), axis)
        self.transfers[node.name] = (begin, self.free[axis])

    def _wait(self, node: Node) -> None:
        start = start_of(self.graph, node)
        if start is not None:
            self.started[node.name] = start.name
            self.waited[node.name] = max(self.transfers[start.name][1] - self.clock, 0.0)
            self.clock += self.waited[node.name]


def exposed(graph: Graph, costs: StepCosts | None = None) -> float:
    """How long a rank is predicted to stand still for communication, in seconds.

    Args:
        graph: the graph of one rank.
        costs: the time of a node and of a collective; `RooflineStep()` by default.

    Returns:
        The seconds; `timeline` says where.

    Example:
        >>> from funpipe.passes.communication.example import example
        >>> from funpipe.passes.communication.hoist_starts import hoist_starts
        >>> exposed(hoist_starts()(example())) < exposed(example())
        True
    """
    return timeline(graph, costs).exposed
