"""Looped BFS: all microbatches through a rank's first stage, then all through its next one.

Source: Lamy-Poirier, "Breadth-First Pipeline Parallelism", arXiv 2211.05953.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from funpipe.schedules.base import Schedule
from funpipe.schedules.constraints import at_least
from funpipe.schedules.placements import loop
from funpipe.schedules.table import Table


@final
@dataclass(frozen=True)
class LoopedBFS(Schedule):
    """All microbatches on one stage after the other, breadth first: each stage's parameters are needed once per pass.

    Bubble (p - 1)(F + B) with the times of one of a rank's v stages, for m >= p (with m < p a rank also waits for
    microbatches to come round again); peak vm activations of one stage.

    Args:
        stages_per_rank: v, the stages on each rank.

    Example:
        >>> from funpipe.schedules import simulate
        >>> sim = simulate(LoopedBFS(stages_per_rank=2).table(num_ranks=4, num_microbatches=8))
        >>> sim.bubble, sim.peak_activations
        (9.0, (16, 16, 16, 16))
    """

    stages_per_rank: int = 2

    def placement(self, num_ranks: int) -> tuple[int, ...]:
        """Stage s on rank s mod p; see `Schedule.placement`."""
        return loop(num_ranks, self.stages_per_rank, self)

    # p = 2 ranks, v = 2 stages per rank, m = 3 microbatches:
    #
    #   rank 0 | 0F0 0F1 0F2 2F0 2F1 2F2 .   .   2B0 2B1 2B2 0B0 0B1 0B2
    #   rank 1 | .   1F0 1F1 1F2 3F0 3F1 3F2 3B0 3B1 3B2 1B0 1B1 1B2 .
    #
    # A stage begins max(m, p) slots after the one before it on its rank: when that is done, or when the first
    # microbatch has come round. Backwards ascend as GPipe's do, for the same bits as on one device.
    def table(self, num_ranks: int, num_microbatches: int) -> Table:
        """The table drawn above; see `Schedule.table`."""
        placement = self.placement(num_ranks)
        p, v = num_ranks, self.stages_per_rank
        m = at_least(1, num_microbatches, "num_microbatches", self)
        (chunk, r), i = np.divmod(np.arange(p * v)[:, None], p), np.arange(m)
        forward = r + chunk * max(m, p) + i
        backward = forward.max() + 1 + (p - 1 - r) + (v - 1 - chunk) * max(m, p) + i
        return Table.from_slots({"F": forward, "B": backward}, placement=placement)
