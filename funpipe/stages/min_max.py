"""Contiguous partitions of a line that make the slowest stage as fast as possible, within the memory of each stage.

Two sweeps of dynamic programming (`suffixes.py`): the first finds the least possible time of the slowest stage; the
second, among the partitions that reach it, the one that moves the fewest bytes, and of those the one whose cuts come
first. What the optimum of a coarser line takes bounds how far a stage can reach: a sweep looks at a narrow band only.

Source: A. Pınar and C. Aykanat, "Fast optimal load balancing algorithms for 1D partitioning", Journal of Parallel and
Distributed Computing 64 (2004), on this recursion and on bounds for it.
"""

from dataclasses import dataclass

import numpy as np

from funpipe.stages.corners import Amounts
from funpipe.stages.grid import NEVER, Block, Grid
from funpipe.stages.suffixes import Step, suffixes, windows

COARSE = 256
"""The segments of a line that is not made coarser first."""


@dataclass(frozen=True, eq=False)
class Limits:
    """What a stage may hold.

    Args:
        nbytes: the bytes that a rank may hold.
        in_flight: for each stage the microbatches whose saved values it holds.
    """

    nbytes: int
    in_flight: Amounts

    @staticmethod
    def none(parts: int) -> "Limits":
        """Nothing is limited."""
        return Limits(NEVER, np.zeros(parts, np.int64))

    @property
    def parts(self) -> int:
        """The number of stages."""
        return len(self.in_flight)

    def held(self, block: Block, stages: Amounts) -> Amounts:
        """What each part holds as each stage: shape (stages, rows, columns)."""
        return block.resident + self.in_flight[stages, None, None] * block.saved

    def masked(self, amounts: Amounts, block: Block, stages: Amounts) -> Amounts:
        """Amounts of parts, `NEVER` where a stage holds too much."""
        if self.nbytes == NEVER:
            return amounts[None]
        return np.where(self.held(block, stages) <= self.nbytes, amounts, NEVER)


def min_max(grid: Grid, limits: Limits) -> tuple[int, ...] | None:
    """The best boundaries.

    Args:
        grid: the amounts of all parts of the line.
        limits: how many stages there are, and what each may hold.

    Returns:
        The `parts + 1` boundaries, ascending, both ends among them; None if no partition keeps the limits.
    """
    least = slowest(grid, limits)
    return None if least is None else fewest_bytes(grid, limits, least)


def slowest(grid: Grid, limits: Limits) -> int | None:
    """The least possible time of the slowest stage, in ticks; None if no partition keeps the limits."""
    reach = grid.reach(_bound(grid, limits), limits.nbytes)

    def step(block: Block, stages: Amounts) -> Amounts:
        return limits.masked(block.time, block, stages)

    found = suffixes(grid, reach, windows(reach, limits.parts), step, np.maximum)
    return None if found.best >= NEVER else found.best


def _bound(grid: Grid, limits: Limits) -> int:
    """A time that some partition keeps: the best one with cuts at some of the boundaries."""
    wanted = max(COARSE, 16 * limits.parts)
    if grid.size <= 2 * wanted:
        return NEVER
    even = np.linspace(0, grid.size, wanted).astype(np.int64)
    by_work = np.searchsorted(grid.done, np.linspace(0, int(grid.done[-1]), wanted))
    found = slowest(grid.among(np.unique([*even, *np.minimum(by_work, grid.size)])), limits)
    return NEVER if found is None else found


def fewest_bytes(grid: Grid, limits: Limits, ticks: int) -> tuple[int, ...]:
    """The partition that moves the fewest bytes of those whose stages take at most so long; the first of several."""
    reach = grid.reach(ticks, limits.nbytes)
    found = suffixes(grid, reach, windows(reach, limits.parts), _bytes_within(limits, ticks), np.add)
    return found.bounds


def _bytes_within(limits: Limits, ticks: int) -> Step:
    def step(block: Block, stages: Amounts) -> Amounts:
        return limits.masked(np.where(block.time <= ticks, block.received, NEVER), block, stages)

    return step


def least_memory(grid: Grid, in_flight: Amounts) -> tuple[int, ...]:
    """The partition whose fullest stage holds as little as possible.

    Args:
        grid: the amounts of all parts of the line.
        in_flight: for each stage the microbatches whose saved values it holds.
    """
    limits = Limits(NEVER, in_flight)
    reach = np.full(grid.size + 1, grid.size)
    return suffixes(grid, reach, windows(reach, limits.parts), limits.held, np.maximum).bounds
