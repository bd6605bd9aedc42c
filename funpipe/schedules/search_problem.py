"""What a search is about: stages with their times, the rank of each, and how much each rank may hold."""

from dataclasses import dataclass
from functools import cached_property

from funpipe.schedules.simulate import simulate
from funpipe.schedules.simulation import Simulation
from funpipe.schedules.table import Table

Times = tuple[float, ...]
"""A time for each stage, or for each boundary between two."""


@dataclass(frozen=True)
class Problem:
    """One placement to find an order for.

    Args:
        placement: the rank of each stage.
        num_microbatches: how many microbatches a step has.
        F, B, I, W: the time of each kind of task on each stage.
        latency: the time of a result over each boundary between stages of two ranks.
        limits: for each rank the most activations it may hold, in activations of one stage and microbatch.
        split: whether backwards are I and W; else they are B.
    """

    placement: tuple[int, ...]
    num_microbatches: int
    F: Times
    B: Times
    I: Times
    W: Times
    latency: Times
    limits: tuple[int, ...]
    split: bool = True

    @property
    def num_ranks(self) -> int:
        """The number of ranks."""
        return len(self.limits)

    @property
    def num_stages(self) -> int:
        """The number of stages."""
        return len(self.placement)

    @cached_property
    def stages_of(self) -> tuple[tuple[int, ...], ...]:
        """The stages of each rank, ascending."""
        return tuple(
            tuple(stage for stage, home in enumerate(self.placement) if home == rank) for rank in range(self.num_ranks)
        )

    def travel(self, boundary: int) -> float:
        """The time of a result between a stage and the next one; 0 if one rank holds both."""
        return self.latency[boundary] if self.placement[boundary] != self.placement[boundary + 1] else 0.0

    def simulate(self, table: Table) -> Simulation:
        """A table of this placement with these times."""
        return simulate(table, F=self.F, B=self.B, I=self.I, W=self.W, latency=self.latency)

    def fits(self, peaks: tuple[int, ...]) -> bool:
        """Whether ranks that hold this much stay within their limits."""
        return all(peak <= limit for peak, limit in zip(peaks, self.limits, strict=True))
