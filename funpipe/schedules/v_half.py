"""V-Half: two stages per rank in a V, whose activations live half as long as 1F1B's.

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
class VHalf(Schedule):
    """About half the activations of 1F1B with a smaller bubble; two stages per rank, in a V.

    Peak 2 * ((p + 2) // 2) activations of one stage on the fullest rank. Bubble (7p - 8) // 2 times F at F = I = W, for
    m >= p >= 2 and with the time of one of a rank's two stages: less than 7p / 12m of the makespan, where the paper
    says about p / 2m. The steady part has no bubble where W + 2I >= 2F and W + 2F >= 2I.

    Example:
        >>> from funpipe.schedules import simulate
        >>> sim = simulate(VHalf().table(num_ranks=4, num_microbatches=8))
        >>> sim.bubble, sim.peak_activations
        (10.0, (6, 6, 6, 6))
    """

    def placement(self, num_ranks: int) -> tuple[int, ...]:
        """Stages s and 2p - 1 - s on rank s; see `Schedule.placement`."""
        return vee(at_least(1, num_ranks, "num_ranks", self))

    # p = 2 ranks, m = 3 microbatches:
    #
    #   rank 0 | 0F0 0F1 .   3F0 3I0 3W0 0F2 3F1 3I1 3W1 0I0 0W0 .   3F2 3I2 3W2 0I1 0W1 .   0I2 0W2
    #   rank 1 | .   1F0 2F0 1F1 .   2I0 2F1 2W0 1F2 1I0 2I1 1W0 2F2 2W1 1I1 2I2 1W1 2W2 1I2 1W2 .
    #
    # One microbatch's tasks, repeated every six slots and then squeezed: F goes down the ranks one slot at a time and
    # comes back two slots at a time, I does the same, and W takes what is left.
    def table(self, num_ranks: int, num_microbatches: int) -> Table:
        """The table drawn above; see `Schedule.table`."""
        p = at_least(1, num_ranks, "num_ranks", self)
        m = at_least(1, num_microbatches, "num_microbatches", self)
        # Where p is even, the same pace would put two tasks into one slot of a turn; the V's tips are wider then.
        wide = p % 2 == 0
        return v_table(p, m, Pace(up=2, f_tip=4 if wide else 2, i_top=1, i_tip=5 if wide else 1))
