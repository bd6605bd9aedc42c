"""Eager 1F1B: 1F1B with about twice the warm-up, so that a rank has a forward to run while results are on their way.

Source: Zhuang et al., "On Optimizing the Communication of Model Parallelism", arXiv 2211.05322, section 4.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from funpipe.schedules.base import Schedule
from funpipe.schedules.constraints import at_least
from funpipe.schedules.table import Table


@final
@dataclass(frozen=True)
class Eager1F1B(Schedule):
    """1F1B whose ranks run forwards earlier, to hide the time of messages at the price of memory; one stage per rank.

    Bubble (p - 1)(F + B) as 1F1B's, peak min(m, 2(p - r) - 1) activations on rank r, for p ranks and m microbatches.
    A message to the next rank and one back have an F and a B of time: latencies up to (F + B) / 2 cost the steady part
    nothing.

    Example:
        >>> from funpipe.schedules import OneFOneB, simulate
        >>> sim = simulate(Eager1F1B().table(num_ranks=4, num_microbatches=8))
        >>> sim.bubble, sim.peak_activations
        (9.0, (7, 5, 3, 1))
        >>> [simulate(s.table(4, 8), latency=0.5).bubble for s in (OneFOneB(), Eager1F1B())]
        [17.0, 12.0]
    """

    def placement(self, num_ranks: int) -> tuple[int, ...]:
        """Stage s on rank s; see `Schedule.placement`."""
        return tuple(range(at_least(1, num_ranks, "num_ranks", self)))

    # p = 3 ranks, m = 6 microbatches:
    #
    #   rank 0 | 0F0 0F1 0F2 0F3 0F4 0B0 0F5 0B1 .   0B2 .   0B3 .   0B4 .   0B5
    #   rank 1 | .   1F0 1F1 1F2 1B0 1F3 1B1 1F4 1B2 1F5 1B3 .   1B4 .   1B5 .
    #   rank 2 | .   .   2F0 2B0 2F1 2B1 2F2 2B2 2F3 2B3 2F4 2B4 2F5 2B5 .   .
    #
    # Rank r's first 2(p - r) - 1 forwards follow each other without a gap, right up to its first backward. The
    # backwards are where 1F1B has them, and forward i follows backward i - (2(p - r) - 1).
    def table(self, num_ranks: int, num_microbatches: int) -> Table:
        """The table drawn above; see `Schedule.table`."""
        p = at_least(1, num_ranks, "num_ranks", self)
        m = at_least(1, num_microbatches, "num_microbatches", self)
        r, i = np.arange(p)[:, None], np.arange(m)
        warm_up = 2 * (p - r) - 1
        backward = (p + 2 * i) + (p - 1 - r)
        forward = np.where(i < warm_up, r + i, backward - 2 * warm_up + 1)
        return Table.from_slots({"F": forward, "B": backward}, placement=self.placement(p))
