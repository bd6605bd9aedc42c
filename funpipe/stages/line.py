"""A traced forward as a line of operations, with where it can be cut and what would cross."""

from collections.abc import Iterator

import numpy as np
from torch import fx

from funpipe.stages.costs import types_of
from funpipe.stages.min_max import Matrix
from funpipe.stages.sources import Sources, owner_of
from funpipe.tracing.traced import Traced


class Line:
    """The operations of a forward that a stage can own, and the boundaries between them.

    A boundary lies right after an operation and the items of its results, so that views and constants begin the stage
    that follows. There is none between the operations that read and update the same buffer.

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
        self._kept = [i for i in range(len(ends)) if i not in joined]
        self.boundaries: tuple[int, ...] = (0, *(ends[i] for i in self._kept))

    def moved(self) -> Matrix:
        """The bytes that cross into the stage from each boundary to each other, and their gradients' way back."""
        count = len(set(self._operation.values()))
        steps = np.zeros((count + 2, count + 2))
        for value, nbytes, readers in self._crossing():
            before = self._operation[value]
            for reader in readers:
                # The first read of a stage that begins after `before` and not after `reader`, and ends after `reader`.
                steps[before + 1, reader + 1] += nbytes
                steps[reader + 1, reader + 1] -= nbytes
                before = reader
        kept = [0, *(i + 1 for i in self._kept)]
        return steps.cumsum(axis=0).cumsum(axis=1)[np.ix_(kept, kept)]

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

    def _crossing(self) -> Iterator[tuple[fx.Node, int, list[int]]]:
        """Each value that later operations read: its bytes both ways, and the operations, ascending."""
        readers: dict[fx.Node, set[int]] = {}
        for node, operation in self._operation.items():
            for value in self.sources.of(node):
                if self._operation.get(value, operation) != operation:
                    readers.setdefault(value, set()).add(operation)
        for value, found in readers.items():
            yield value, sum(_both_ways(t.nbytes, t.dtype.is_floating_point) for t in types_of(value)), sorted(found)

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


def _both_ways(nbytes: int, has_gradient: bool) -> int:
    return 2 * nbytes if has_gradient else nbytes
