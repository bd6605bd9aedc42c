"""What each task waits for, and the order in which ranks can therefore run their rows.

    F(s, i)  needs  F(s-1, i)
    B(s, i)  needs  F(s, i)  and  I(s+1, i)
    I(s, i)  needs  F(s, i)  and  I(s+1, i)
    W(s, i)  needs  I(s, i)

B does what I and W do, so a B leaves the result that others know as I. With that, each task waits for at most one task
of its own stage and one of another, and a table's dependencies are two arrays of the shape of its cells.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from funpipe.schedules.codes import IDLE, is_kind
from funpipe.schedules.table import Table


@dataclass(frozen=True)
class Dependencies:
    """For each cell of a table, as codes (-1: none): what it leaves and the two results that it waits for.

    Args:
        result: the cell's own code, or I's where the cell is a B; shape of the cells, int32.
        own: the result of the same stage that it waits for.
        other: the result of the stage before (F) or after (B, I).
    """

    result: np.ndarray
    own: np.ndarray
    other: np.ndarray


def dependencies(table: Table) -> Dependencies:
    """The dependencies of all cells of a table."""
    cells = table.cells
    stage = 4 * table.num_microbatches  # the distance of a task's code to the next stage's
    is_f, is_b, is_i, is_w = (is_kind(cells, kind) for kind in ("F", "B", "I", "W"))
    result = cells + is_b
    own, other = np.full_like(cells, IDLE), np.full_like(cells, IDLE)
    np.subtract(cells, 1, out=own, where=is_b | is_w)
    np.subtract(cells, 2, out=own, where=is_i)
    # Before the first stage and after the last one the arithmetic would leave the codes of the table.
    np.subtract(cells, stage, out=other, where=is_f & (cells >= stage))
    np.add(result, stage, out=other, where=(is_b | is_i) & (result < stage * (table.num_stages - 1)))
    return Dependencies(result, own, other)


def rounds(table: Table, needs: Dependencies) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Lets all ranks run their rows in order, each blocking until what it waits for is there.

    Each round advances every rank whose next cell can run, by one cell; an idle cell always can. Two cells that run
    together advance in one round, when both can. On a table that is drawn as it runs, a round is a slot. When no rank
    can advance the rounds end: at the ends of the rows, or in a deadlock.

    Args:
        table: the table.
        needs: its dependencies.

    Yields:
        The ranks and the slots of the cells that run, two integer arrays of one length; the second cell of a pair
        that runs together comes right after the first.
    """
    pairs = table.has_overlaps
    done = np.zeros(4 * table.num_stages * table.num_microbatches + 1, bool)
    done[IDLE] = True
    slot = np.zeros(table.num_ranks, np.int64)
    ranks = np.flatnonzero(slot < table.num_slots)
    while ranks.size:
        at = slot[ranks]
        ready = done[needs.own[ranks, at]] & done[needs.other[ranks, at]]
        if pairs:
            beside = at + table.joined[ranks, at]
            ready &= done[needs.own[ranks, beside]] & done[needs.other[ranks, beside]]
        going, at = ranks[ready], at[ready]
        if not going.size:
            return
        slot[going] += 1
        if pairs:
            width = 1 + table.joined[going, at]
            slot[going] += width - 1
            going, at = np.repeat(going, width), np.repeat(at, width)
            at[1:] += going[1:] == going[:-1]
        yield going, at
        done[needs.result[going, at]] = True
        ranks = ranks[slot[ranks] < table.num_slots]
