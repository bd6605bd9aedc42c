"""Forward only: an inference, which has no backwards to wait for."""

from dataclasses import dataclass
from typing import final

import numpy as np

from funpipe.schedules.base import Schedule
from funpipe.schedules.constraints import at_least
from funpipe.schedules.placements import loop
from funpipe.schedules.table import Table


@final
@dataclass(frozen=True)
class ForwardOnly(Schedule):
    """The forwards alone, for evaluation and inference; a training step needs another schedule.

    Bubble (p - 1)F with the time of one of a rank's v stages, for m >= p. All microbatches go through a rank's first
    stage, then all through its next: that fills every slot for any m >= p, while rounds of p would leave gaps unless m
    is a multiple of p.

    Args:
        stages_per_rank: v, the stages on each rank.

    Example:
        >>> from funpipe.schedules import simulate
        >>> simulate(ForwardOnly().table(num_ranks=4, num_microbatches=8)).bubble
        3.0
    """

    stages_per_rank: int = 1

    def placement(self, num_ranks: int) -> tuple[int, ...]:
        """Stage s on rank s mod p; see `Schedule.placement`."""
        return loop(num_ranks, self.stages_per_rank, self)

    # p = 3 ranks, v = 2 stages per rank, m = 4 microbatches:
    #
    #   rank 0 | 0F0 0F1 0F2 0F3 3F0 3F1 3F2 3F3 .   .
    #   rank 1 | .   1F0 1F1 1F2 1F3 4F0 4F1 4F2 4F3 .
    #   rank 2 | .   .   2F0 2F1 2F2 2F3 5F0 5F1 5F2 5F3
    def table(self, num_ranks: int, num_microbatches: int) -> Table:
        """The table drawn above; see `Schedule.table`."""
        placement = self.placement(num_ranks)
        m = at_least(1, num_microbatches, "num_microbatches", self)
        chunk, r = np.divmod(np.arange(len(placement))[:, None], num_ranks)
        forward = r + chunk * max(m, num_ranks) + np.arange(m)
        return Table.from_slots({"F": forward}, placement=placement)
