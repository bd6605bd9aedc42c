"""Which collectives become one: those alike, in the order in which what they take is ready, up to a number of bytes.

One sweep over the nodes keeps a group open for each kind of collective. When a start comes

    that depends on an open group      that group closes: whatever depends on it can then run behind its last member
    that would overfill its group      the group closes, and the start begins a new one
    of another kind                    nothing happens to this group

so that a group's collective can run where its last member stood, and no two groups wait for each other.
"""

from dataclasses import dataclass, field
from typing import Any

from funpipe.graphs import Graph, Node
from funpipe.graphs.bound import bound
from funpipe.graphs.communication import is_start, is_wait
from funpipe.passes.communication.alike import Key, key_of, seen
from funpipe.passes.communication.cost_model import collective_bytes
from funpipe.passes.communication.moves import Before


@dataclass(frozen=True)
class Limits:
    """When a group is full.

    Args:
        first: the bytes of the first group of each kind.
        rest: the bytes of every other.
        closes: whether it is full "before" a member that would cross the limit, or "after" one that did.
    """

    first: int
    rest: int
    closes: str = "before"


@dataclass
class _Open:
    """A group that may still grow; `bit` stands for it in sets of groups."""

    bit: int
    limit: int
    nbytes: int = 0
    members: list[Node] = field(default_factory=list)


def groups_of(graph: Graph, before: Before, kinds: frozenset[Any], limits: Limits) -> list[tuple[Node, ...]]:
    """Groups of starts that may become one collective each.

    Args:
        graph: the graph, its starts in the order in which they are to be filled in.
        before: what must run before each node.
        kinds: the operators that are grouped.
        limits: when a group is full.

    Returns:
        Groups of two or more starts; in each, and among groups by last members, in the order of the graph.
    """
    sweep = _Sweep(graph, kinds, limits)
    for node in graph.nodes:
        sweep.visit(node, before[node.name])
    return [tuple(group.members) for group in sweep.groups if len(group.members) > 1]


class _Sweep:
    """The state of the sweep: open groups by key, and for each node the groups that it depends on."""

    def __init__(self, graph: Graph, kinds: frozenset[Any], limits: Limits) -> None:
        self.graph, self.kinds, self.limits = graph, kinds, limits
        self.held, self.seen = bound(graph), seen(graph)
        self.groups: list[_Open] = []
        self.open: dict[Key, _Open] = {}
        self.begun: set[Key] = set()
        self.needs: dict[str, int] = {}

    def visit(self, node: Node, before: set[str]) -> None:
        """Takes up a node."""
        needs = 0
        for name in before:
            needs |= self.needs[name]
        if is_start(node):
            self.open = {key: group for key, group in self.open.items() if not group.bit & needs}
            if self._groupable(node):
                needs |= self._joined(node).bit
        self.needs[node.name] = needs

    def _groupable(self, node: Node) -> bool:
        """Whether a start may be merged: it is read by waits alone, and every rank of its axis merges it too."""
        waited = all(map(is_wait, self.graph.readers(node.name))) and node.name not in self.graph.returned
        return node.target in self.kinds and node.name not in self.held and waited

    def _joined(self, node: Node) -> _Open:
        """The group that a start joins."""
        key, nbytes = (*key_of(self.graph, node), node.name in self.seen), collective_bytes(self.graph, node)
        group = self.open.get(key)
        if group is None or self._is_full(group, nbytes):
            group = self._begun(key)
        group.members.append(node)
        group.nbytes += nbytes
        return group

    def _is_full(self, group: _Open, nbytes: int) -> bool:
        """Whether so many bytes more belong into another group."""
        return group.nbytes >= group.limit if self.limits.closes == "after" else group.nbytes + nbytes > group.limit

    def _begun(self, key: Key) -> _Open:
        limit = self.limits.rest if key in self.begun else self.limits.first
        self.begun.add(key)
        group = self.open[key] = _Open(1 << len(self.groups), limit)
        self.groups.append(group)
        return group
