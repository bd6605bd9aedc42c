"""GPipe: all forwards, then all backwards.

Source: Huang et al., "GPipe: Efficient Training of Giant Neural Networks using Pipeline Parallelism", arXiv 1811.06965.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from funpipe.schedules.base import Schedule
from funpipe.schedules.constraints import at_least
from funpipe.schedules.placements import chosen
from funpipe.schedules.squeeze import squeeze
from funpipe.schedules.table import Table


@final
@dataclass(frozen=True, repr=False)
class GPipe(Schedule):
    """All forwards, then all backwards; one stage per rank, or any map of stages to ranks.

    Bubble (p - 1)(F + B), peak m activations on every rank, for p ranks with a stage each and m microbatches. With a
    map of stages to ranks, a rank takes all microbatches through one of its stages after the other.

    Args:
        stage_to_rank: the rank of each stage, any number on each; None: stage s on rank s.

    Example:
        >>> from funpipe.schedules import simulate
        >>> sim = simulate(GPipe().table(num_ranks=4, num_microbatches=8))
        >>> sim.bubble, sim.peak_activations
        (9.0, (8, 8, 8, 8))
        >>> simulate(GPipe(stage_to_rank=(0, 0, 1)).table(num_ranks=2, num_microbatches=8)).peak_activations
        (16, 8)
    """

    stage_to_rank: tuple[int, ...] | None = None

    def placement(self, num_ranks: int) -> tuple[int, ...]:
        """The map that was given, or stage s on rank s; see `Schedule.placement`."""
        return chosen(self.stage_to_rank, num_ranks, self)

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
        placement = self.placement(num_ranks)
        m = at_least(1, num_microbatches, "num_microbatches", self)
        if self.stage_to_rank is not None:
            return self._on(placement, m)
        p, i = num_ranks, np.arange(m)
        r = np.arange(p)[:, None]
        forward = r + i
        backward = (m + p - 1) + (p - 1 - r) + i
        return Table.from_slots({"F": forward, "B": backward}, placement=placement)

    def _on(self, placement: tuple[int, ...], m: int) -> Table:
        """The same for any map: stage by stage in the order of the stages, and back."""
        earlier = np.array([placement[:stage].count(rank) for stage, rank in enumerate(placement)])[:, None]
        later = np.array([placement[stage + 1 :].count(rank) for stage, rank in enumerate(placement)])[:, None]
        forward, backward = earlier * m + np.arange(m), (earlier.max() + 1 + later) * m + np.arange(m)
        return squeeze(Table.from_slots({"F": forward, "B": backward}, placement=placement))
