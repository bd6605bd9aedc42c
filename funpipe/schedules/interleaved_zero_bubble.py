"""Interleaved zero bubble: ZB-H1 with several stages per rank.

Source: the split backward of Qi et al., "Zero Bubble Pipeline Parallelism", arXiv 2401.10241, in the rounds of
Narayanan et al., arXiv 2104.04473; torch.distributed.pipelining has it under this name.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from funpipe.schedules.base import Schedule
from funpipe.schedules.constraints import at_least, whole_rounds
from funpipe.schedules.placements import loop
from funpipe.schedules.rounds import turns
from funpipe.schedules.squeeze import squeeze
from funpipe.schedules.table import Table
from funpipe.schedules.task import Kind


@final
@dataclass(frozen=True)
class InterleavedZeroBubble(Schedule):
    """ZB-H1 with v stages per rank, laid round and round, which divides its bubble by v.

    Microbatches go through in rounds of g, as in `Interleaved1F1B`. Bubble (p - 1)(F + I - W) with the times of one
    stage where W takes no longer than F and I, for m >= p; peak min(vm, (v - 1)g + p) activations of one stage on every
    rank, vp where m is a multiple of p.

    Args:
        stages_per_rank: v, the stages on each rank.

    Example:
        >>> from funpipe.schedules import simulate
        >>> sim = simulate(InterleavedZeroBubble(stages_per_rank=2).table(num_ranks=4, num_microbatches=8))
        >>> sim.bubble, sim.peak_activations
        (3.0, (8, 8, 8, 8))
    """

    stages_per_rank: int = 2

    def placement(self, num_ranks: int) -> tuple[int, ...]:
        """Stage s on rank s mod p; see `Schedule.placement`."""
        return loop(num_ranks, self.stages_per_rank, self)

    # p = 2 ranks, v = 2 stages per rank, m = 4 microbatches:
    #
    #   rank 0 | 0F0 0F1 2F0 2F1 .   2I0 2W0 0F2 2I1 2W1 0F3 0I0 0W0 2F2 0I1 0W1 2F3 2I2 2W2 2I3 2W3 0I2 0W2 0I3 0W3
    #   rank 1 | .   1F0 1F1 3F0 3I0 3F1 3I1 3W0 1F2 1I0 3W1 1F3 1I1 1W0 3F2 3I2 1W1 3F3 3I3 3W2 1I2 3W3 1I3 1W2 1W3
    #
    # Rank r begins with the forwards of a round on all stages but one, and one more for each rank behind it; then F, I
    # and W in turns, W being r tasks behind I.
    def table(self, num_ranks: int, num_microbatches: int) -> Table:
        """The table drawn above; see `Schedule.table`."""
        placement = self.placement(num_ranks)
        p, v = num_ranks, self.stages_per_rank
        m = at_least(1, num_microbatches, "num_microbatches", self)
        per_round = whole_rounds(p, m, self)
        forward, backward = turns(p, v, m, per_round)
        r = np.array(placement)[:, None]
        warm_up = np.minimum((v - 1) * per_round + (p - 1 - r), v * m)
        turn = 3 * (v * m + backward)
        slots: dict[Kind, np.ndarray] = {"F": 3 * (v * m + forward - warm_up), "I": turn + 1, "W": turn + 2 + 3 * r}
        return squeeze(Table.from_slots(slots, placement=placement))
