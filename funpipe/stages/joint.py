"""The best cut where a rank holds several stages, and its memory is limited: the stages of a rank depend on each other.

Whether all stages can be at least so fast within the limit is decided in two steps.

1. For weights λ of the ranks, at least 0, the least possible Σ λ_r held_r over all partitions is one sweep of dynamic
   programming (`suffixes.py`). If that is more than Σ λ_r limit, no partition keeps every rank's limit; else the
   partition that reaches it may keep them. Where neither is so, fuller ranks get larger weights, for some rounds.
2. Then the ways to cut the beginning of the line are followed stage by stage (`labels.py`), as many as are kept: where
   some were dropped, that none led to a partition proves nothing.

All amounts are integers, so that a proof is exact.

Source: for the bound, H. Everett, "Generalized Lagrange multiplier method for solving problems of optimum allocation of
resources", Operations Research 11 (1963).
"""

from collections.abc import Callable

import numpy as np

from funpipe.stages.corners import Amounts
from funpipe.stages.grid import NEVER, Block
from funpipe.stages.held import Bounds, Held
from funpipe.stages.labels import Bound, Found, follow
from funpipe.stages.min_max import Limits
from funpipe.stages.suffixes import Step, Suffixes, suffixes, windows

ROUNDS = 16
"""How often the weights change."""

UNITS = 1024
"""The largest weight; weights are integers."""


def fastest(held: Held, limit: int, ticks: int) -> Found:
    """The partition whose slowest stage is the fastest, of those that keep the limit, or the best that was found.

    Args:
        held: what each rank holds.
        limit: the bytes that a rank may hold.
        ticks: what the slowest stage takes at least.
    """

    def slowest(bounds: Bounds) -> int:
        return int(held.grid.stages(bounds).time.max())

    found = _least(lambda most: find(held, limit, most), slowest, ticks, held.grid.times())
    if found.bounds is None and not found.proved:
        # The search for the least memory looks elsewhere, and may come to a partition that keeps the limit.
        bounds, _ = smallest(held)
        return Found(bounds if held(bounds).max() <= limit else None, proved=False)
    return found


def smallest(held: Held) -> tuple[Bounds, bool]:
    """The partition whose fullest rank holds as little as possible, and whether that is proved.

    Args:
        held: what each rank holds.
    """
    found = _least(lambda limit: find(held, limit, NEVER - 1), lambda bounds: int(held(bounds).max()), 0)
    assert found.bounds is not None, "any partition keeps a limit that is large enough"
    return found.bounds, found.proved


def find(held: Held, limit: int, ticks: int) -> Found:
    """A partition whose ranks hold at most `limit` bytes and whose stages take at most `ticks`."""
    reach = held.grid.reach(ticks, limit)
    allowed = windows(reach, len(held.ranks))
    weights, bounds = np.full(held.num_ranks, UNITS, np.int64), []
    for _ in range(ROUNDS):
        lightest = _lightest(held, reach, allowed, weights, (limit, ticks))
        if lightest.best > min(int(weights.sum()) * limit, NEVER - 1):
            return Found(None)
        amounts = held(lightest.bounds)
        if amounts.max() <= limit:
            return Found(lightest.bounds)
        bounds.append(Bound(weights, lightest.least))
        weights = _changed(weights, amounts / max(limit, 1))
    for weights in np.eye(held.num_ranks, dtype=np.int64):
        bounds.append(Bound(weights, _lightest(held, reach, allowed, weights, (limit, ticks)).least))
    return follow(held, allowed, bounds, limit, ticks)


def _lightest(held: Held, reach: Amounts, allowed: np.ndarray, weights: Amounts, within: tuple[int, int]) -> Suffixes:
    """The partition with the least weighted memory, as suffixes."""
    step = _weighted(Limits(within[0], held.in_flight), weights[np.array(held.ranks)], within[1])
    return suffixes(held.grid, reach, allowed, step, np.add)


def _weighted(limits: Limits, weights: Amounts, ticks: int) -> Step:
    def step(block: Block, stages: Amounts) -> Amounts:
        held = limits.held(block, stages)
        possible = (held <= limits.nbytes) & (block.time <= ticks)
        return np.where(possible, weights[stages, None, None] * held, NEVER)

    return step


def _changed(weights: Amounts, fullness: np.ndarray) -> Amounts:
    """Weights that shift to ranks which hold more of their limit than others."""
    shifted = weights * np.exp(4 * (np.minimum(fullness, 4) - min(fullness.max(), 4)))
    return np.rint(UNITS * shifted / shifted.max()).astype(np.int64)


def _least(
    find: Callable[[int], Found], value: Callable[[Bounds], int], low: int, values: Amounts | None = None
) -> Found:
    """The partition of the least value, and whether it is proved that none has less.

    Args:
        find: a partition of at most a value.
        value: of a partition.
        low: no partition has less.
        values: the only values that there are, ascending; None: any.
    """
    best, proved = (first := find(NEVER - 1)).bounds, first.proved
    while best is not None and low < (high := value(best)):
        middle = (low + high) // 2
        if values is not None:
            between = values[np.searchsorted(values, low) : np.searchsorted(values, high)]
            if not len(between):
                break
            middle = int(between[len(between) // 2])
        found = find(middle)
        if found.bounds is not None:
            best = found.bounds
        else:
            # Later ones are of larger values: the last one proves what those before it did not.
            low, proved = middle + 1, found.proved
    return Found(best, proved)
