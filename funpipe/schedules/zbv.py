"""ZBV: the zero-bubble schedule with two stages per rank in a V, in the memory of 1F1B.

Source: Qi et al., "Zero Bubble Pipeline Parallelism", arXiv 2401.10241, section 6.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from funpipe.schedules.base import Schedule
from funpipe.schedules.constraints import at_least
from funpipe.schedules.placements import along_vee, vee
from funpipe.schedules.squeeze import squeeze
from funpipe.schedules.table import Table
from funpipe.schedules.task import Kind


@final
@dataclass(frozen=True)
class ZBV(Schedule):
    """No rank waits from its first task to its last at F = I = W, with the memory of 1F1B; two stages per rank, in a V.

    Bubble (p - 1)F at F = I = W with the time of one of a rank's two stages, which is the time until the last rank's
    first task; in each rank's own window there is none. Peak 2p activations of one stage on every rank. Exists for
    m >= 2p - 1. When F, I and W differ it waits: `search` finds a table for given times.

    Example:
        >>> from funpipe.schedules import simulate
        >>> sim = simulate(ZBV().table(num_ranks=4, num_microbatches=8))
        >>> sim.bubble, sim.peak_activations
        (3.0, (8, 8, 8, 8))
    """

    def placement(self, num_ranks: int) -> tuple[int, ...]:
        """Stages s and 2p - 1 - s on rank s; see `Schedule.placement`."""
        return vee(at_least(1, num_ranks, "num_ranks", self))

    # p = 2 ranks, m = 4 microbatches:
    #
    #   rank 0 | 0F0 0F1 0F2 3F0 3I0 3W0 3F1 3I1 3W1 0F3 0I0 0W0 3F2 3I2 3W2 0I1 0W1 3F3 3I3 3W3 0I2 0W2 0I3 0W3 .
    #   rank 1 | .   1F0 2F0 1F1 2F1 2I0 2W0 1F2 1I0 1W0 2F2 2I1 2W1 1F3 1I1 1W1 2F3 2I2 2W2 1I2 2I3 1I3 1W2 2W3 1W3
    #
    # Each rank takes turns of six: F, I, W of its stage on the way down, F, I, W of its stage on the way up. It begins
    # with 2p - 1 - r forwards of the first, of which the last r alternate with the second's, and then p - r turns of
    # the second stage alone. At the end the W that are left come after all I.
    def table(self, num_ranks: int, num_microbatches: int) -> Table:
        """The table drawn above; see `Schedule.table`."""
        p = at_least(1, num_ranks, "num_ranks", self)
        m = at_least(2 * p - 1, num_microbatches, "num_microbatches", self)
        r, i = np.arange(p)[:, None], np.arange(m)
        warm_up = 2 * p - 1 - r
        down: dict[Kind, np.ndarray] = {
            "F": np.where(i < warm_up, 6 * (i - warm_up - (p - r)) + 4, 6 * (i - warm_up)),
            "I": 6 * i + 1 + 0 * r,
            "W": 6 * (i + np.select([i < m - p, i < m - r], [0 * r, r], 2 * r)) + 2,
        }
        up: dict[Kind, np.ndarray] = {
            "F": 6 * (i - p) + 3 + 0 * r,
            "I": 6 * (i - p + r) + 4,
            "W": 6 * np.where(i < m - r, i - p + r, i + r) + 5,
        }
        return squeeze(Table.from_slots(along_vee(down, up), placement=self.placement(p)))
