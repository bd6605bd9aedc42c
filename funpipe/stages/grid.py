"""What every possible stage of a traced graph costs: its time, what it receives, and what it holds.

A possible stage is a part of the line of segments (`line.py`), from one boundary to another.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from funpipe.stages.corners import ROWS, Amounts, Corners

NEVER = 2**60
"""More than any amount; two of them can still be added."""

LISTED = 2000
"""The most segments of which all parts are listed."""


@dataclass(frozen=True, eq=False)
class Block:
    """Some rows of the matrix of all parts; the first row and the first column are those of the same boundary.

    Args:
        first: that boundary.
        time: in ticks, what a stage takes for a microbatch: its work and its transfers.
        received: the bytes of a microbatch that come to it.
        resident: the bytes that it holds all the time.
        saved: the bytes of a microbatch that it holds from its forward to its backward.
    """

    first: int
    time: Amounts
    received: Amounts
    resident: Amounts
    saved: Amounts


@dataclass(frozen=True, eq=False)
class Grid:
    """The amounts of all parts of a line. Times are integers (ticks), so that sums are exact and equal parts equal.

    Args:
        work: in ticks.
        received, resident, saved: in bytes, as in `Block`.
        transfer: the ticks that numbers of received bytes take.
        done: for each boundary the work before it; the difference of two is at most the work of the part between.
        kept: the same of the resident bytes.
    """

    work: Corners
    received: Corners
    resident: Corners
    saved: Corners
    transfer: Callable[[Amounts], Amounts]
    done: Amounts
    kept: Amounts

    @property
    def size(self) -> int:
        """The number of segments."""
        return self.work.size

    def among(self, boundaries: Amounts) -> "Grid":
        """The amounts of the parts between some of the boundaries, the first and the last one among them."""
        parts = {name: getattr(self, name).among(boundaries) for name in ("work", "received", "resident", "saved")}
        return replace(self, **parts, done=self.done[boundaries], kept=self.kept[boundaries])

    def blocks(self, reach: Amounts, rows: np.ndarray) -> Iterator[Block]:
        """The matrix from its last rows up.

        Args:
            reach: for each boundary the last one that a stage from there may end at; ascending.
            rows: for each boundary whether a stage may begin there; blocks without one are left out.
        """
        ends = {
            first: int(reach[min(first + ROWS, self.size + 1) - 1])
            for first in reversed(range(0, self.size + 1, ROWS))
            if rows[first : first + ROWS].any()
        }
        parts = (part.blocks(ends) for part in (self.work, self.received, self.resident, self.saved))
        for first, work, received, resident, saved in zip(ends, *parts, strict=True):
            yield Block(first, work + self.transfer(received), received, resident, saved)

    def stages(self, bounds: Sequence[int]) -> Block:
        """The amounts of the stages between given boundaries, shape (stages,).

        Args:
            bounds: ascending, from the first to the last one.
        """
        few = self.among(np.array(bounds))
        work, *others = (np.diag(p.dense(), 1) for p in (few.work, few.received, few.resident, few.saved))
        return Block(0, work + self.transfer(others[0]), *others)

    def times(self) -> Amounts | None:
        """The times of all parts, ascending, each once; None where there are too many to list."""
        if self.size > LISTED:
            return None
        return np.unique((self.work.dense() + self.transfer(self.received.dense()))[np.triu_indices(self.size + 1, 1)])

    def reach(self, ticks: int, nbytes: int) -> Amounts:
        """For each boundary the last one that a stage from there can end at, and at least the next.

        Args:
            ticks: the longest time of a stage.
            nbytes: the most that it may hold.
        """
        last = np.minimum(_within(self.done, ticks), _within(self.kept, nbytes))
        return np.minimum(np.maximum(last, np.arange(self.size + 1) + 1), self.size)


def _within(before: Amounts, limit: int) -> Amounts:
    return np.searchsorted(before, before + limit, side="right") - 1
