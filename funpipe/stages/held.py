"""What each rank holds under given cuts, where a rank may have several stages."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from funpipe.stages.corners import Amounts
from funpipe.stages.grid import Grid

Bounds = tuple[int, ...]
"""The boundaries of stages, both ends of the line among them."""


@dataclass(frozen=True)
class Leaf:
    """A parameter or a buffer.

    Args:
        home: the segment where it lives.
        others: the other segments that read it, ascending.
        nbytes: its size.
    """

    home: int
    others: tuple[int, ...]
    nbytes: int

    def within(self, low: int, high: int) -> bool:
        """Whether a segment from one boundary to another reads it."""
        return any(low <= segment < high for segment in (self.home, *self.others))


@dataclass(frozen=True, eq=False)
class Held:
    """What each rank holds: its stages, and once each leaf that its stages read and that lives elsewhere.

    Args:
        grid: what each stage holds; a leaf counts in the stage where it lives.
        in_flight: for each stage the microbatches whose saved values it holds.
        ranks: the rank of each stage.
        leaves: those that are read in several segments.
    """

    grid: Grid
    in_flight: Amounts
    ranks: tuple[int, ...]
    leaves: Sequence[Leaf] = ()

    @property
    def num_ranks(self) -> int:
        """How many ranks there are."""
        return max(self.ranks) + 1

    def __call__(self, bounds: Bounds) -> Amounts:
        """The bytes of each rank.

        Args:
            bounds: one more than there are stages.
        """
        held = np.zeros(self.num_ranks, np.int64)
        stages = self.grid.stages(bounds)
        np.add.at(held, np.array(self.ranks), stages.resident + self.in_flight * stages.saved)
        for leaf in self.leaves:
            parts = list(zip(self.ranks, bounds, bounds[1:], strict=False))
            readers = {rank for rank, low, high in parts if leaf.within(low, high)}
            homes = {rank for rank, low, high in parts if low <= leaf.home < high}
            held[list(readers - homes)] += leaf.nbytes
        return held
