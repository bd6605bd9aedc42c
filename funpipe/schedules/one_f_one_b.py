"""1F1B: a few forwards to fill the pipeline, then one forward and one backward in turns.

Source: Narayanan et al., "Efficient Large-Scale Language Model Training on GPU Clusters Using Megatron-LM",
arXiv 2104.04473, section 2.2.1 (PipeDream-Flush, arXiv 2006.09503).
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from funpipe.schedules.base import Schedule
from funpipe.schedules.block import repeat, straight
from funpipe.schedules.constraints import at_least
from funpipe.schedules.placements import chosen
from funpipe.schedules.squeeze import squeeze
from funpipe.schedules.table import Table


@final
@dataclass(frozen=True, repr=False)
class OneFOneB(Schedule):
    """Forwards and backwards in turns, so that a rank holds few activations; one stage per rank, or any map of them.

    Bubble (p - 1)(F + B) as GPipe's, peak min(m, p - r) activations on rank r, for p ranks and m microbatches. Any m
    will do: with m < p all forwards of the first ranks are warm-up. With a map of stages to ranks, a microbatch's tasks
    take the first slots of a rank that come free again every 2n slots, for n stages on the rank with most of them.

    Args:
        stage_to_rank: the rank of each stage, any number on each; None: stage s on rank s.

    Example:
        >>> from funpipe.schedules import simulate
        >>> sim = simulate(OneFOneB().table(num_ranks=4, num_microbatches=8))
        >>> sim.bubble, sim.peak_activations
        (9.0, (4, 3, 2, 1))
        >>> simulate(OneFOneB(stage_to_rank=(0, 0, 1)).table(num_ranks=2, num_microbatches=8)).peak_activations
        (4, 1)
    """

    stage_to_rank: tuple[int, ...] | None = None

    def placement(self, num_ranks: int) -> tuple[int, ...]:
        """The map that was given, or stage s on rank s; see `Schedule.placement`."""
        return chosen(self.stage_to_rank, num_ranks, self)

    # p = 4 ranks, m = 6 microbatches:
    #
    #   rank 0 | 0F0 0F1 0F2 0F3 .   .   .   0B0 0F4 0B1 0F5 0B2 .   0B3 .   0B4 .   0B5
    #   rank 1 | .   1F0 1F1 1F2 .   .   1B0 1F3 1B1 1F4 1B2 1F5 1B3 .   1B4 .   1B5 .
    #   rank 2 | .   .   2F0 2F1 .   2B0 2F2 2B1 2F3 2B2 2F4 2B3 2F5 2B4 .   2B5 .   .
    #   rank 3 | .   .   .   3F0 3B0 3F1 3B1 3F2 3B2 3F3 3B3 3F4 3B4 3F5 3B5 .   .   .
    #                            ^ slot p
    #
    # Rank r fills the pipeline with its first p - r forwards, one a slot. From then on every microbatch takes two
    # slots, one F and one B: the last rank runs B of microbatch i in slot p + 2i, the ranks before it one slot later
    # each, and a rank's later forwards take the slots between its backwards.
    def table(self, num_ranks: int, num_microbatches: int) -> Table:
        """The table drawn above; see `Schedule.table`."""
        placement = self.placement(num_ranks)
        m = at_least(1, num_microbatches, "num_microbatches", self)
        if self.stage_to_rank is not None:
            block, period = straight(placement)
            return squeeze(Table.from_slots(repeat(block, period, m), placement=placement))
        p, i = num_ranks, np.arange(m)
        r = np.arange(p)[:, None]
        forward = np.where(i < p - r, r + i, r + 2 * i)
        backward = (p + 2 * i) + (p - 1 - r)
        return Table.from_slots({"F": forward, "B": backward}, placement=placement)
