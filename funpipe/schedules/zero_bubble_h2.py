"""ZB-H2: ZB-H1 with twice the warm-up, which fills the pipeline's beginning too.

Source: Qi et al., "Zero Bubble Pipeline Parallelism", arXiv 2401.10241, section 2.3.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from funpipe.schedules.base import Schedule
from funpipe.schedules.constraints import at_least
from funpipe.schedules.squeeze import squeeze
from funpipe.schedules.table import Table
from funpipe.schedules.task import Kind


@final
@dataclass(frozen=True)
class ZeroBubbleH2(Schedule):
    """No rank waits from its first task to its last, when F, I and W take the same time; one stage per rank.

    Bubble (p - 1)F at F = I = W, which is the time until the last rank's first task; in each rank's own window there
    is none. Peak 2p - 1 activations on every rank. Exists for m >= 2p - 1.

    Example:
        >>> from funpipe.schedules import simulate
        >>> sim = simulate(ZeroBubbleH2().table(num_ranks=4, num_microbatches=8))
        >>> sim.bubble, sim.peak_activations
        (3.0, (7, 7, 7, 7))
    """

    def placement(self, num_ranks: int) -> tuple[int, ...]:
        """Stage s on rank s; see `Schedule.placement`."""
        return tuple(range(at_least(1, num_ranks, "num_ranks", self)))

    # p = 3 ranks, m = 6 microbatches:
    #
    #   rank 0 | 0F0 0F1 0F2 0F3 0F4 0I0 0W0 0F5 0I1 0W1 0I2 0W2 0I3 0W3 0I4 0W4 0I5 0W5 .   .
    #   rank 1 | .   1F0 1F1 1F2 1I0 1F3 1I1 1F4 1I2 1W0 1F5 1I3 1W1 1I4 1W2 1I5 1W3 1W4 1W5 .
    #   rank 2 | .   .   2F0 2I0 2F1 2I1 2F2 2I2 2F3 2I3 2F4 2I4 2W0 2F5 2I5 2W1 2W2 2W3 2W4 2W5
    #
    # In turns: F of a microbatch that is 2(p - 1 - r) further, I, and W of one that is 2r back.
    def table(self, num_ranks: int, num_microbatches: int) -> Table:
        """The table drawn above; see `Schedule.table`."""
        p = at_least(1, num_ranks, "num_ranks", self)
        m = at_least(2 * p - 1, num_microbatches, "num_microbatches", self)
        r, turn = np.arange(p)[:, None], 3 * (2 * (p - 1) + np.arange(m))
        slots: dict[Kind, np.ndarray] = {"F": turn - 6 * (p - 1 - r), "I": turn + 1 + 0 * r, "W": turn + 2 + 6 * r}
        return squeeze(Table.from_slots(slots, placement=self.placement(p)))
