"""GPipe: all forwards, then all backwards.

Source: Huang et al., "GPipe: Efficient Training of Giant Neural Networks using Pipeline Parallelism", arXiv 1811.06965.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from funpipe.schedules.base import Schedule
from funpipe.schedules.constraints import at_least
from funpipe.schedules.table import Table


@final
@dataclass(frozen=True)
class GPipe(Schedule):
    """All forwards, then all backwards; one stage per rank.

    Bubble (p - 1)(F + B), peak m activations on every rank, for p ranks and m microbatches.

    Example:
        >>> from funpipe.schedules import simulate
        >>> sim = simulate(GPipe().table(num_ranks=4, num_microbatches=8))
        >>> sim.bubble, sim.peak_activations
        (9.0, (8, 8, 8, 8))
    """

    def placement(self, num_ranks: int) -> tuple[int, ...]:
        """Stage s on rank s; see `Schedule.placement`."""
        return tuple(range(at_least(1, num_ranks, "num_ranks", self)))

    # p = 4 ranks, m = 4 microbatches:
    #
    #   rank 0 | 0F0 0F1 0F2 0F3 .   .   .   .   .   .   0B0 0B1 0B2 0B3
    #   rank 1 | .   1F0 1F1 1F2 1F3 .   .   .   .   1B0 1B1 1B2 1B3 .
    #   rank 2 | .   .   2F0 2F1 2F2 2F3 .   .   2B0 2B1 2B2 2B3 .   .
    #   rank 3 | .   .   .   3F0 3F1 3F2 3F3 3B0 3B1 3B2 3B3 .   .   .
    #                                        ^ slot m + p - 1
    #
    # The paper's figure runs the backwards from the last microbatch to the first. Here they ascend: the makespan and
    # the peak are the same, and each stage adds up its gradients in the order of the microbatches, as one device does,
    # which gives the same bits.
    def table(self, num_ranks: int, num_microbatches: int) -> Table:
        """The table drawn above; see `Schedule.table`."""
        p = at_least(1, num_ranks, "num_ranks", self)
        m = at_least(1, num_microbatches, "num_microbatches", self)
        r, i = np.arange(p)[:, None], np.arange(m)
        forward = r + i
        backward = (m + p - 1) + (p - 1 - r) + i
        return Table.from_slots({"F": forward, "B": backward}, placement=self.placement(p))
