"""The best ways to cut the rest of a line, for every boundary and every number of parts.

With `best[k][i]` the least amount of the line from boundary i to its end in k parts,

    best[k][i] = min over j > i of combine(part[i, j], best[k - 1][j]),

where `combine` is the larger of two amounts, or their sum: exactly, for any amounts. Rows are taken from the last one
up, a block at a time, and a row only as far as a part from there can reach.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from funpipe.stages.corners import ROWS, Amounts
from funpipe.stages.grid import NEVER, Block, Grid

Step = Callable[[Block, Amounts], Amounts]
"""The amount of each part in a block as each of some stages: shape (stages, rows, columns), or (1, rows, columns) where
it is the same for all; `NEVER` where a stage cannot be that part."""


@dataclass(frozen=True, eq=False)
class Suffixes:
    """The best suffixes of a line.

    Args:
        least: shape (parts + 1, boundaries); `NEVER` where there is none.
        end: in the same shape, where the first part of the best suffix ends; the first such boundary of several.
    """

    least: Amounts
    end: Amounts

    @property
    def best(self) -> int:
        """The amount of the whole line."""
        return int(self.least[-1, 0])

    @property
    def bounds(self) -> tuple[int, ...]:
        """The boundaries of the best way to cut the whole line, both ends among them."""
        found = [0]
        for ends in self.end[:0:-1]:
            found.append(int(ends[found[-1]]))
        return tuple(found)


def suffixes(grid: Grid, reach: Amounts, allowed: np.ndarray, step: Step, combine: np.ufunc) -> Suffixes:
    """Computes them.

    Args:
        grid: the amounts of all parts.
        reach: for each boundary the last one that a part from there may end at; ascending.
        allowed: bool, shape (parts + 1, boundaries): whether a suffix of so many parts may begin at a boundary.
        step: the amount of a part.
        combine: `np.maximum` or `np.add`.
    """
    least = np.full(allowed.shape, NEVER, np.int64)
    least[0, -1] = 0
    end = np.zeros(allowed.shape, np.int64)
    for block in grid.blocks(reach, np.logical_or.reduce(allowed[1:])):
        inside = allowed[1:, block.first : block.first + ROWS]
        counts = np.flatnonzero(inside.any(axis=1)) + 1
        if len(counts):
            low, high = int(counts[0]), int(counts[-1])
            amounts = step(block, len(allowed) - 1 - np.arange(low, high + 1))
            for row in reversed(np.flatnonzero(inside.any(axis=0))):
                here = block.first + int(row)
                last = int(reach[here])
                if last > here:
                    found = combine(
                        amounts[:, row, row + 1 : last + 1 - block.first], least[low - 1 : high, here + 1 : last + 1]
                    )
                    first = found.argmin(axis=1)
                    value = found[np.arange(len(first)), first]
                    good = allowed[low : high + 1, here] & (value < NEVER)
                    least[low : high + 1, here] = np.where(good, value, NEVER)
                    end[low : high + 1, here] = here + 1 + first
    return Suffixes(least, end)


def windows(reach: Amounts, parts: int) -> np.ndarray:
    """Whether a suffix of so many parts can begin at each boundary: bool, shape (parts + 1, boundaries).

    Args:
        reach: how far a part can go.
        parts: of the whole line.
    """
    size = len(reach) - 1
    boundaries, allowed = np.arange(size + 1), np.zeros((parts + 1, size + 1), bool)
    first, last = size, [0]
    for _ in range(parts):
        last.append(int(reach[last[-1]]))
    for count in range(parts + 1):
        allowed[count] = (boundaries >= first) & (boundaries <= min(last[parts - count], size - count))
        first = int(np.searchsorted(reach, first))
    allowed[parts, 1:] = False
    return allowed
