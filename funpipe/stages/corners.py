"""Amounts of every part of a line, kept as the few places where they change.

An amount `value[i, j]` of the part from boundary i to boundary j is the sum of the corners at rows up to i and columns
up to j. What one segment adds to all parts that contain it are two corners; so the amounts of all parts of a line of
20,000 segments take kilobytes, and any block of their matrix is two running sums.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Amounts = NDArray[np.int64]

ROWS = 32
"""Rows of a block: enough that few calls are made, and few enough that the block stays in a cache."""


@dataclass(frozen=True, eq=False)
class Corners:
    """The amounts of all parts of a line, as integers.

    Args:
        size: the number of segments; boundaries are 0 to `size`.
        at: the corners, shape (corners, 3): row, column, change.

    Example:
        >>> amounts = Corners.of(2, [counted([0], 5), counted([1], 7)])
        >>> amounts.dense()
        array([[ 0,  5, 12],
               [ 0,  0,  7],
               [ 0,  0,  0]])
    """

    size: int
    at: Amounts

    @staticmethod
    def of(size: int, items: Iterable[Iterable[tuple[int, int, int]]]) -> "Corners":
        """The sum of items, each given by its corners; those beyond the last column change nothing.

        Args:
            size: the number of segments.
            items: the corners of each.
        """
        found = [corner for item in items for corner in item]
        at = np.array(found, np.int64).reshape(-1, 3)
        at = at[at[:, 1] <= size]
        return Corners(size, at[np.argsort(at[:, 0], kind="stable")])

    def among(self, boundaries: Amounts) -> "Corners":
        """The amounts of the parts between some of the boundaries.

        Args:
            boundaries: ascending, the first and the last one among them.
        """
        moved = np.stack([*(np.searchsorted(boundaries, self.at[:, k]) for k in (0, 1)), self.at[:, 2]], axis=1)
        return Corners(len(boundaries) - 1, moved)

    def dense(self) -> Amounts:
        """The whole matrix, shape (boundaries, boundaries)."""
        filled = np.zeros((self.size + 1, self.size + 1), np.int64)
        np.add.at(filled, (self.at[:, 0], self.at[:, 1]), self.at[:, 2])
        return filled.cumsum(axis=0).cumsum(axis=1)

    def blocks(self, ends: Mapping[int, int]) -> Iterator[Amounts]:
        """Some blocks of `ROWS` rows of the matrix.

        Args:
            ends: for the first row of each block, descending, the last column that is wanted.

        Yields:
            For each block its amounts, from the column of its first row on.
        """
        above = np.zeros(self.size + 2, np.int64)
        np.add.at(above, self.at[:, 1], self.at[:, 2])
        left = len(self.at)
        for first, end in ends.items():
            low = int(np.searchsorted(self.at[:left, 0], first))
            np.subtract.at(above, self.at[low:left, 1], self.at[low:left, 2])
            rows, columns, changes = self.at[low:left].T
            filled = np.zeros((min(ROWS, self.size + 1 - first), end + 1 - first), np.int64)
            inside = (columns <= end) & (columns >= first) & (rows < first + ROWS)
            np.add.at(filled, (rows[inside] - first, columns[inside] - first), changes[inside])
            filled[0] += above[first : end + 1]
            left = low
            yield filled.cumsum(axis=0).cumsum(axis=1) if len(self.at) else filled


def counted(
    places: Iterable[int], amount: int, after: int = -1, before: int | None = None
) -> Iterator[tuple[int, int, int]]:
    """The corners of an amount that a part has once if it contains any of some segments.

    Args:
        places: the segments, ascending.
        amount: what counts.
        after: only parts that begin after this segment have it.
        before: only parts that end before this segment have it.
    """
    for place in places:
        yield after + 1, place + 1, amount
        yield place + 1, place + 1, -amount
        if before is not None:
            yield after + 1, before + 1, -amount
            yield place + 1, before + 1, amount
        after = place
