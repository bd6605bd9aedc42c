"""Contiguous partitions of a line of items that make the most expensive part as cheap as possible.

With `best[k][j]` the least possible maximum over the first j items in k parts,

    best[k][j] = min over i < j of max(best[k - 1][i], cost[i, j]),

exactly, for any costs. Among the partitions that reach the optimum, the one that moves the fewest bytes is taken, and
of those the one whose cuts come first.
"""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

TOLERANCE = 1e-9
"""Relative: costs are differences of sums, so that equal parts differ by rounding."""


def min_max(cost: Matrix, moved: Matrix, parts: int) -> tuple[int, ...]:
    """The best boundaries.

    Args:
        cost: `cost[i, j]`, the cost of a part from boundary i to boundary j > i; infinity elsewhere. Boundary 0 is the
            beginning of the line, the last one its end.
        moved: `moved[i, j]`, the bytes that cross into that part.
        parts: how many, at least 1 and at most the number of boundaries less 1.

    Returns:
        The `parts - 1` inner boundaries, ascending.

    Example:
        >>> cost = np.array([[np.inf, 1, 3, 6], [np.inf, np.inf, 2, 5], [np.inf] * 3 + [3], [np.inf] * 4])
        >>> min_max(cost, np.zeros_like(cost), 2)
        (2,)
    """
    limit = _optimum(cost, parts) * (1 + TOLERANCE)
    steps = np.where(cost <= limit, moved, np.inf)
    return _first_of_least(steps, _least_moved(steps, parts))


def _optimum(cost: Matrix, parts: int) -> float:
    """The least possible cost of the most expensive part."""
    best = cost[0]
    for _ in range(parts - 1):
        best = np.maximum(best[:, None], cost).min(axis=0)
    return float(best[-1])


def _least_moved(steps: Matrix, parts: int) -> list[Matrix]:
    """For each number of parts, and each boundary, the fewest bytes moved from there to the end."""
    last = np.full(len(steps), np.inf)
    last[-1] = 0
    least = [last]
    for _ in range(parts):
        least.append((steps + least[-1]).min(axis=1))
    return least


def _first_of_least(steps: Matrix, least: list[Matrix]) -> tuple[int, ...]:
    """The cuts of a partition that moves the fewest bytes, each as early as possible."""
    cuts = [0]
    for rest, whole in zip(least[-2::-1], least[::-1], strict=False):
        here = cuts[-1]
        cuts.append(int(np.flatnonzero(steps[here] + rest == whole[here])[0]))
    return tuple(cuts[1:-1])
