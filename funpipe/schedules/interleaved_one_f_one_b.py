"""Interleaved 1F1B: several stages per rank, so that the pipeline fills in steps of a smaller stage.

Source: Narayanan et al., "Efficient Large-Scale Language Model Training on GPU Clusters Using Megatron-LM",
arXiv 2104.04473, section 2.2.2.
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
class Interleaved1F1B(Schedule):
    """1F1B with v stages per rank, laid round and round: a smaller bubble for v times the messages.

    Microbatches go through in rounds of p, or of some number g above p where m is no multiple of p; all rounds are of
    one size. Bubble (p - 1)(F + B) with the times of one stage, which is 1/v of 1F1B's for the same model, for m >= p;
    peak min(vm, (v - 1)g + 2(p - r) - 1) activations of one stage on rank r. With m < p there is one round, of m.

    Args:
        stages_per_rank: v, the stages on each rank.

    Example:
        >>> from funpipe.schedules import simulate
        >>> sim = simulate(Interleaved1F1B(stages_per_rank=2).table(num_ranks=4, num_microbatches=8))
        >>> sim.bubble, sim.peak_activations
        (9.0, (11, 9, 7, 5))
    """

    stages_per_rank: int = 2

    def placement(self, num_ranks: int) -> tuple[int, ...]:
        """Stage s on rank s mod p; see `Schedule.placement`."""
        return loop(num_ranks, self.stages_per_rank, self)

    # p = 2 ranks, v = 2 stages per rank, m = 4 microbatches:
    #
    #   rank 0 | 0F0 0F1 2F0 2F1 0F2 2B0 0F3 2B1 2F2 0B0 2F3 0B1 .   2B2 .   2B3 0B2 0B3
    #   rank 1 | .   1F0 1F1 3F0 3B0 3F1 3B1 1F2 1B0 1F3 1B1 3F2 3B2 3F3 3B3 1B2 1B3 .
    #
    # The forwards of a rank, numbered in its order: a round on its first stage, the same round on the next, and after
    # the last stage the next round. The backwards go through the stages of each round the other way. Rank r begins with
    # the forwards of a round on all stages but one, and two more for each rank behind it; then one forward and one
    # backward in turns.
    def table(self, num_ranks: int, num_microbatches: int) -> Table:
        """The table drawn above; see `Schedule.table`."""
        placement = self.placement(num_ranks)
        p, v = num_ranks, self.stages_per_rank
        m = at_least(1, num_microbatches, "num_microbatches", self)
        per_round = whole_rounds(p, m, self)
        forward, backward = turns(p, v, m, per_round)
        r = np.array(placement)[:, None]
        warm_up = np.minimum((v - 1) * per_round + 2 * (p - 1 - r), v * m)
        slots: dict[Kind, np.ndarray] = {"F": 2 * (v * m + forward - warm_up), "B": 2 * (v * m + backward) + 1}
        return squeeze(Table.from_slots(slots, placement=placement))
