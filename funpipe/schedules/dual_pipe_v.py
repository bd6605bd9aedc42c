"""DualPipeV: a forward of one of a rank's two stages runs together with a backward of the other.

Source: DeepSeek-AI, "DeepSeek-V3 Technical Report", arXiv 2412.19437, section 3.2.1 (DualPipe), and the README of
DualPipe, https://github.com/deepseek-ai/DualPipe, which cuts its picture in half along a V.
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

TURN = 8
"""Columns of a turn before they are squeezed: F and B of a pair, a W, F and B of the other pair, and spare ones."""


@final
@dataclass(frozen=True)
class DualPipeV(Schedule):
    """Forwards and backwards run together, so that each hides what the other waits for; two stages per rank, in a V.

    The last rank waits (p - 1)(F&B + B - 3W) in all, with the times of one of a rank's two stages, F&B that of a
    forward and a backward that run together, where F = I >= W; without a gain from that, F&B = F + B, this is the
    bubble. Peak 2p + 1 activations of one stage on every rank. Exists for m >= 2p.

    Example:
        >>> from funpipe.schedules import simulate
        >>> table = DualPipeV().table(num_ranks=4, num_microbatches=8)
        >>> str(table.order(3)[10])
        '4F4&3B0'
        >>> simulate(table).bubble, simulate(table).peak_activations
        (6.0, (9, 9, 9, 9))
    """

    def placement(self, num_ranks: int) -> tuple[int, ...]:
        """Stages s and 2p - 1 - s on rank s; see `Schedule.placement`."""
        return vee(at_least(1, num_ranks, "num_ranks", self))

    # p = 2 ranks, m = 4 microbatches; & joins what runs together:
    #
    #   rank 0 | 0F0 0F1 0F2 3F0 3I0 3W0 3F1 0F3&3B1 3F2&0B0 3B2 .   3F3&0B1 3B3 0I2 0W2 0I3 0W3
    #   rank 1 | .   1F0 2F0 1F1 2F1 1F2 2B0 2F2&1B0 1F3&2B1 2F3&1B1 2B2 1B2 .   2I3 1I3 2W3 1W3
    #
    # "Down" is a rank's first stage, "up" its second. A turn t of rank r, the first of them with negative t:
    #
    #   F down(2p - 1 - r + t) & B up(p - 1 - r + t),   W,   F up(p + t) & B down(t)
    #
    # Before turn 0 there is no B down: F up runs alone, and B up is split, its W right after. Before that, F down is
    # p - 1 - r turns ahead. After the last F, backwards run alone; the last p of them are split, and their W, first
    # come first served, fill the turns in which there is no F and no B up either.
    def table(self, num_ranks: int, num_microbatches: int) -> Table:
        """The table drawn above; see `Schedule.table`."""
        p = at_least(1, num_ranks, "num_ranks", self)
        m = at_least(2 * p, num_microbatches, "num_microbatches", self)
        r, i = np.arange(p)[:, None], np.arange(m)
        ahead, alone = 2 * p - 1 - r, p - 1 - r
        # How many splits a rank's backwards are past the first one that is split at the end; negative: still whole.
        up_splits = 2 * (i - alone - (m - p)) - r - 1
        down_splits = np.where(i <= m - p + r, 2 * (i - (m - p)) - r, i - (m - p))
        up_split = (i < alone) | (i - alone >= m - p) & (up_splits >= 0)
        down_split = (i >= m - p) & (down_splits >= 0)
        first_late = TURN * (m - alone) + 2
        b_down, b_up = TURN * (i + 0 * r) + 4, TURN * (i - alone) + 1
        down: dict[Kind, np.ndarray] = {
            "F": TURN * np.where(i < ahead, i - ahead - alone, i - ahead),
            "B": b_down,
            "I": b_down,
            "W": first_late + TURN * down_splits,
        }
        up: dict[Kind, np.ndarray] = {
            "F": TURN * (i - p + 0 * r) + 3,
            "B": b_up,
            "I": b_up,
            "W": np.where(i < alone, b_up + 1, first_late + TURN * up_splits),
        }
        split = np.concatenate([down_split, up_split[::-1]])
        # Not in the last rank's first turn: its B up needs the F up right before it, and a pair would only wait longer.
        down_joined = (i >= ahead) & ~((r == p - 1) & (i == ahead))
        up_joined = (i >= p) & (r >= 0)
        table = Table.from_slots(
            along_vee(down, up),
            placement=self.placement(p),
            where={"B": ~split, "I": split, "W": split},
            joined=np.concatenate([down_joined, up_joined[::-1]]),
        )
        return squeeze(table)
