"""ZB-H1: 1F1B with the backward split, so that gradients of weights fill the pipeline's end.

Source: Qi et al., "Zero Bubble Pipeline Parallelism", arXiv 2401.10241, section 2.2.
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
class ZeroBubbleH1(Schedule):
    """1F1B whose backward is split into I and W: a third of the bubble for the same memory; one stage per rank.

    Bubble (p - 1)(F + I - W) where W takes no longer than F and I; in general (p - 1)(F + I - min(F, I, W)); both for
    m >= p. Peak min(m, p) activations on every rank.

    Example:
        >>> from funpipe.schedules import simulate
        >>> sim = simulate(ZeroBubbleH1().table(num_ranks=4, num_microbatches=8))
        >>> sim.bubble, sim.peak_activations
        (3.0, (4, 4, 4, 4))
    """

    def placement(self, num_ranks: int) -> tuple[int, ...]:
        """Stage s on rank s; see `Schedule.placement`."""
        return tuple(range(at_least(1, num_ranks, "num_ranks", self)))

    # p = 3 ranks, m = 5 microbatches:
    #
    #   rank 0 | 0F0 0F1 0F2 .   .   0I0 0W0 0F3 0I1 0W1 0F4 0I2 0W2 0I3 0W3 0I4 0W4
    #   rank 1 | .   1F0 1F1 .   1I0 1F2 1I1 1W0 1F3 1I2 1W1 1F4 1I3 1W2 1I4 1W3 1W4
    #   rank 2 | .   .   2F0 2I0 2F1 2I1 2F2 2I2 2W0 2F3 2I3 2W1 2F4 2I4 2W2 2W3 2W4
    #
    # In turns: F of a microbatch that is p - 1 - r further, I, and W of one that is r back. The last rank holds its
    # first W back, and with them as many activations as the first rank needs to fill the pipeline.
    def table(self, num_ranks: int, num_microbatches: int) -> Table:
        """The table drawn above; see `Schedule.table`."""
        p = at_least(1, num_ranks, "num_ranks", self)
        m = at_least(1, num_microbatches, "num_microbatches", self)
        r, turn = np.arange(p)[:, None], 3 * (p - 1 + np.arange(m))
        slots: dict[Kind, np.ndarray] = {"F": turn - 3 * (p - 1 - r), "I": turn + 1 + 0 * r, "W": turn + 2 + 3 * r}
        return squeeze(Table.from_slots(slots, placement=self.placement(p)))
