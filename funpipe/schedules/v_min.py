"""V-Min: two stages per rank in a V, whose activations live as short as they can.

Source: Qi et al., "Pipeline Parallelism with Controllable Memory", arXiv 2405.15362.
"""

from dataclasses import dataclass
from typing import final

from funpipe.schedules.base import Schedule
from funpipe.schedules.constraints import at_least
from funpipe.schedules.placements import vee
from funpipe.schedules.table import Table
from funpipe.schedules.v_block import Pace, v_table


@final
@dataclass(frozen=True)
class VMin(Schedule):
    """About a third of the activations of 1F1B, the least that a V allows; two stages per rank.

    Peak 2 * ((p + 4) // 3) activations of one stage on the fullest rank. Bubble 4p - 5 times F at F = I = W (4p - 4
    where 3 divides p), for p >= 2 and with the time of one of a rank's two stages: at most 2p / 3m of the makespan.
    With times that differ, such as 0.5, 0.6 and 0.4 of F, I and W, the ranks wait in every turn, and 1F1B is faster.

    Example:
        >>> from funpipe.schedules import simulate
        >>> sim = simulate(VMin().table(num_ranks=4, num_microbatches=8))
        >>> sim.bubble, max(sim.peak_activations)
        (11.0, 4)
    """

    def placement(self, num_ranks: int) -> tuple[int, ...]:
        """Stages s and 2p - 1 - s on rank s; see `Schedule.placement`."""
        return vee(at_least(1, num_ranks, "num_ranks", self))

    # p = 2 ranks, m = 3 microbatches:
    #
    #   rank 0 | 0F0 .   .   3F0 3I0 3W0 0F1 0I0 0W0 3F1 3I1 3W1 0F2 0I1 0W1 3F2 3I2 3W2 .   0I2 0W2
    #   rank 1 | .   1F0 2F0 .   .   2I0 1I0 1F1 2F1 1W0 2W0 2I1 1I1 1F2 2F2 1W1 2W1 2I2 1I2 1W2 2W2
    #
    # One microbatch's tasks, repeated every six slots and then squeezed: F goes down the ranks and back one slot at a
    # time, I does the same, and W takes what is left.
    def table(self, num_ranks: int, num_microbatches: int) -> Table:
        """The table drawn above; see `Schedule.table`."""
        p = at_least(1, num_ranks, "num_ranks", self)
        m = at_least(1, num_microbatches, "num_microbatches", self)
        # Where 3 divides p, the same pace would put two tasks into one slot of a turn; the V's tips are wider then.
        tip = 3 if p % 3 == 0 else 1
        return v_table(p, m, Pace(up=1, f_tip=tip, i_top=1, i_tip=tip))
