"""Schedules of two stages per rank in a V that repeat one microbatch's tasks: what V-Half and V-Min have in common.

F goes down the ranks one slot at a time, and back up them at some pace; I does the same; W takes what is left. Then the
same comes again every six slots.

Source: Qi et al., "Pipeline Parallelism with Controllable Memory", arXiv 2405.15362, section 3.
"""

from dataclasses import dataclass

import numpy as np

from funpipe.schedules.block import Block, fill, repeat
from funpipe.schedules.placements import vee
from funpipe.schedules.squeeze import squeeze
from funpipe.schedules.table import Table

TURN = 6
"""The slots of a microbatch on a rank: F, I and W of two stages."""


@dataclass(frozen=True)
class Pace:
    """How fast a microbatch goes.

    Args:
        up: the slots from a rank to the one before it, on the way up.
        f_tip, i_tip: the slots from the last rank's stage on the way down to its stage on the way up, of F and of I.
        i_top: the slots from the last stage's F to its I.
    """

    up: int
    f_tip: int
    i_top: int
    i_tip: int


def v_block(num_ranks: int, pace: Pace) -> Block:
    """Microbatch 0's F and I.

    Args:
        num_ranks: p.
        pace: how fast it goes.

    Returns:
        Their slots on each of the 2p stages.

    Example:
        >>> {kind: slots.tolist() for kind, slots in v_block(2, Pace(up=1, f_tip=1, i_top=1, i_tip=1)).items()}
        {'F': [0, 1, 2, 3], 'I': [7, 6, 5, 4]}
    """
    r = np.arange(num_ranks)
    back = pace.up * r[::-1]
    f_down = r
    f_up = f_down[-1] + pace.f_tip + back
    i_down = f_up[0] + pace.i_top + r
    i_up = i_down[-1] + pace.i_tip + back
    return {"F": np.append(f_down, f_up[::-1]), "I": np.append(i_up, i_down[::-1])}


def v_table(num_ranks: int, num_microbatches: int, pace: Pace) -> Table:
    """The block with its W, repeated for each microbatch, and squeezed.

    Args:
        num_ranks: at least 1.
        num_microbatches: at least 1.
        pace: one that puts no two of a rank's F and I into the same slot of a turn.
    """
    placement = vee(num_ranks)
    block = fill(v_block(num_ranks, pace), placement, TURN)
    return squeeze(Table.from_slots(repeat(block, TURN, num_microbatches), placement=placement))
