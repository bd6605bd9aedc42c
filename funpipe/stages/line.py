"""A traced graph as a line of segments: where the forward can be cut, and in which segment each node then runs."""

from collections.abc import Iterator
from functools import cached_property

from torch import fx

from funpipe.stages.assign import Assignment, assign
from funpipe.stages.sources import Sources, owner_of
from funpipe.tracing.traced import Traced


class Line:
    """The operations of a forward that a stage can own, and the boundaries between them.

    A boundary lies right after an operation and the items of its results, so that views and constants begin the stage
    that follows. There is none between the operations that read and update the same buffer. A segment is what lies
    between two neighbouring boundaries; a backward node belongs to the segment whose stage would compute it if every
    boundary were a cut.

    Args:
        traced: the graph.
    """

    def __init__(self, traced: Traced) -> None:
        self.traced = traced
        self.sources = Sources(traced.graph)
        owned = [n for n in traced.forward if not self.sources.floats(n)]
        operations = [n for n in owned if owner_of(n) is n]
        index = {n: i for i, n in enumerate(operations)}
        self._operation = {n: index[owner_of(n)] for n in owned}
        ends = self._ends(operations)
        joined = {i for low, high in self._buffers() for i in range(low, high)}
        self.boundaries: tuple[int, ...] = (0, *(end for i, end in enumerate(ends) if i not in joined))

    @cached_property
    def assigned(self) -> Assignment:
        """The segment of every owned node, forward and backward, and of each place of a gradient."""
        return assign(self.traced, self.boundaries[1:-1], self.sources)

    @property
    def num_segments(self) -> int:
        """How many stages there can be at most."""
        return len(self.boundaries) - 1

    def _ends(self, operations: list[fx.Node]) -> list[int]:
        """The position after each operation and the items that follow it; the last one is the end of the forward."""
        position = {n: i for i, n in enumerate(self.traced.forward)}
        ends = []
        for node in operations:
            end = position[node] + 1
            while end < len(self.traced.forward) and owner_of(self.traced.forward[end]) is node:
                end += 1
            ends.append(end)
        return [*ends[:-1], len(self.traced.forward)] if ends else []

    def _buffers(self) -> Iterator[tuple[int, int]]:
        """The first and the last operation that reads or updates each buffer that is updated."""
        leaves = self.traced.leaves
        readers: dict[fx.Node, list[fx.Node]] = {}
        for operation in self._operation:
            for value in self.sources.of(operation):
                readers.setdefault(value, []).append(operation)
        for name, node in self.traced.outputs.items():
            kind, _, leaf = name.partition(".")
            if kind == "buffer":
                buffer = leaves.get(("buffer", leaf))
                touching = readers.get(buffer, []) if buffer is not None else []
                made = [n for n in self.sources.anchors([node]) if n in self._operation]
                touched = [self._operation[n] for n in (*touching, *made)]
                if touching and made:
                    yield min(touched), max(touched)
