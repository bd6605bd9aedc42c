"""A graph taken apart for a compiled step: what is compiled, what is called directly, and where the borders are.

Some nodes are called one by one, in the graph's own order: communication, updates over lists of tensors (a compiler
calls them as they are), and whatever gives or takes a Python number. They are the *stations*. What computes is compiled
in segments: segment `i` runs right before station `i`, the last one behind all stations.

The passes have put every node where it should run: starts early, waits late, updates between them. So a node stays in
the segment that it stands in, and values live as long as the order says. But stations close to each other (one wait for
each parameter, say) leave segments between them that hold next to nothing, and a call of compiled code for each would
take longer than what it computes. So a segment that takes less than `SMALL` seconds is dissolved: its nodes run with
their first readers, or, where a station reads them at once, at the end of the segment before it. A node that touches
memory which some node overwrites stays where it is.

Numbers are apart. What is worked out from single numbers alone (the count of steps, a learning rate, the corrections of
Adam) is no part of a segment, where a compiler would compute it again for every element: it runs first, as one graph of
its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from funpipe.backends.node_kinds import Kinds
from funpipe.graphs.graph import Graph
from funpipe.graphs.node import Node
from funpipe.graphs.order import predecessors
from funpipe.graphs.overwritten import overwritten, owners_of_memory

SMALL = 2e-5
"""Seconds that make a segment worth a call of its own: some times what the call costs."""


@dataclass(frozen=True, eq=False)
class Segments:
    """Where each node of a graph runs.

    Args:
        numbers: what is worked out first, from single numbers.
        stations: the nodes that are called one by one, in order.
        parts: the computing nodes before each station, and those behind the last; each in order.
    """

    numbers: tuple[Node, ...]
    stations: tuple[Node, ...]
    parts: tuple[tuple[Node, ...], ...]


def segments(graph: Graph, seconds: Mapping[str, float]) -> Segments:
    """Takes a graph apart.

    Args:
        graph: the graph; views, parts of several results and tensors made from numbers belong to whoever reads them,
            and are in no segment.
        seconds: what each computing node takes, by name.
    """
    kinds = Kinds(graph)
    stations = tuple(node for node in graph.nodes if kinds.is_station(node))
    numbers = tuple(node for node in graph.nodes if node.name in kinds.numbers)
    places = _Places(graph, kinds, stations, seconds)
    parts: list[list[Node]] = [[] for _ in range(len(stations) + 1)]
    for node in graph.nodes:
        if node.name in places.segment:
            parts[places.segment[node.name]].append(node)
    return Segments(numbers, stations, tuple(map(tuple, parts)))


class _Places:
    """The segment of each computing node."""

    def __init__(self, graph: Graph, kinds: Kinds, stations: Sequence[Node], seconds: Mapping[str, float]) -> None:
        self.kinds, self.last = kinds, len(stations)
        self.station = {node.name: i for i, node in enumerate(stations)}
        self.before = predecessors(graph.nodes)
        self.after: dict[str, list[str]] = {}
        for name, others in self.before.items():
            for other in others:
                self.after.setdefault(other, []).append(name)
        self.nodes = graph.by_name
        self.fixed = _touching_writes(graph)
        self.segment: dict[str, int] = {}
        self._stand(graph)
        self._dissolve(graph, seconds)

    def _stand(self, graph: Graph) -> None:
        """Every node where the graph has it."""
        passed = 0
        for node in graph.nodes:
            if node.name in self.station:
                passed += 1
            elif node.name not in self.kinds.numbers and not self.kinds.floats(node):
                self.segment[node.name] = passed

    def _dissolve(self, graph: Graph, seconds: Mapping[str, float]) -> None:
        members: dict[int, list[str]] = {}
        for name, at in self.segment.items():
            members.setdefault(at, []).append(name)
        for at in sorted(members, reverse=True):
            if sum(seconds.get(name, 0.0) for name in members[at]) < SMALL:
                for name in reversed(members[at]):
                    self._move(name, members, self._latest(name))
        for at in sorted(members):
            if sum(seconds.get(name, 0.0) for name in members[at]) < SMALL:
                for name in list(members[at]):
                    earliest = self._earliest(name)
                    full = [i for i in members if earliest <= i < at and members[i]]
                    self._move(name, members, max(full, default=at))

    def _move(self, name: str, members: dict[int, list[str]], to: int) -> None:
        at = self.segment[name]
        if to != at and name not in self.fixed:
            members[at].remove(name)
            members.setdefault(to, []).append(name)
            self.segment[name] = to

    def _latest(self, name: str) -> int:
        """The segment of the first reader; what no node reads stays."""
        ends = [self._end(reader) for reader in self.after.get(name, ())]
        return max(self.segment[name], min(ends)) if ends else self.segment[name]

    def _end(self, name: str) -> int:
        if name in self.station:
            return self.station[name]
        if name in self.segment:
            return self.segment[name]
        return min((self._end(reader) for reader in self.after.get(name, ())), default=self.last)

    def _earliest(self, name: str) -> int:
        """The first segment in which all that a node reads is there."""
        return max((self._begin(other) for other in self.before[name]), default=0)

    def _begin(self, name: str) -> int:
        if name in self.station:
            return self.station[name] + 1
        if name in self.segment:
            return self.segment[name]
        return max((self._begin(other) for other in self.before[name]), default=0)


def _touching_writes(graph: Graph) -> set[str]:
    """Nodes that read or write memory which some node overwrites."""
    owner, written = owners_of_memory(graph), overwritten(graph)
    return {n.name for n in graph.nodes if any(owner.get(name, name) in written for name in (n.name, *n.reads))}
