"""A list schedule on its way: what runs, what is on its way, what can run next."""

from collections.abc import Mapping
from heapq import heappop, heappush

from funpipe.graphs import Graph, Node
from funpipe.graphs.bound import start_of
from funpipe.graphs.communication import axis_of, is_start, is_wait
from funpipe.passes.communication.moves import Before, turned


class List:
    """A list schedule on its way.

    Args:
        graph: the graph.
        before: what must run before each node.
        seconds: what each node takes.
    """

    def __init__(self, graph: Graph, before: Before, seconds: Mapping[str, float]) -> None:
        self.graph, self.seconds, self.after = graph, seconds, turned(before)
        self.missing = {name: len(needed) for name, needed in before.items()}
        self.clock, self.free, self.arrival = 0.0, dict[str, float](), dict[str, float]()
        self.ready: list[tuple[float, int]] = []
        self.flying: list[tuple[float, int]] = []
        self.order: list[Node] = []

    def ordered(self, urgency: Mapping[str, float]) -> Graph:
        """The graph in the order of the list.

        Args:
            urgency: of each node; the smallest runs first.
        """
        self.urgency = urgency
        for node in self.graph.nodes:
            if not self.missing[node.name]:
                self._add(node)
        while self.ready or self.flying:
            if self.flying and (not self.ready or self.flying[0][0] <= self.clock):
                arrival, at = heappop(self.flying)
                self.clock = max(self.clock, arrival)
            else:
                at = heappop(self.ready)[1]
            self._run(self.graph.nodes[at])
        return self.graph.replace(nodes=tuple(self.order))

    def _add(self, node: Node) -> None:
        """Takes up a node that nothing is missing for."""
        at = self.graph.positions[node.name]
        if is_wait(node):
            start = start_of(self.graph, node)
            heappush(self.flying, (0.0 if start is None else self.arrival[start.name], at))
        else:
            heappush(self.ready, (float("-inf") if is_start(node) else self.urgency[node.name], at))

    def _run(self, node: Node) -> None:
        self.order.append(node)
        if is_start(node):
            axis = axis_of(node)
            self.free[axis] = max(self.clock, self.free.get(axis, 0.0)) + self.seconds[node.name]
            self.arrival[node.name] = self.free[axis]
        else:
            self.clock += self.seconds[node.name]
        for name in self.after[node.name]:
            self.missing[name] -= 1
            if not self.missing[name]:
                self._add(self.graph.by_name[name])
