"""Drawing a table as it runs: the order of each rank is kept, and the idle cells that nothing needs are left out.

A schedule that is known by the order of each rank's tasks puts them into slots in that order, however far apart, and
has them squeezed. Where the slots themselves are simple arithmetic there is nothing to squeeze.
"""

import numpy as np

from funpipe._errors import ScheduleError
from funpipe.schedules.codes import IDLE
from funpipe.schedules.dependencies import dependencies
from funpipe.schedules.table import Table

NEVER = 2**31 - 1


def squeeze(table: Table) -> Table:
    """The same orders, with each task in the first slot that its rank's order and its needs allow.

    Args:
        table: a table whose ranks can run their rows without a deadlock.

    Returns:
        The table as ranks run it when every task takes one slot, and two that run together take two.

    Raises:
        ScheduleError: the ranks of the table wait for each other.

    Example:
        >>> loose = Table.parse("stage -> rank: 0 1; microbatches: 1\\nrank 0 | . 0F0 0B0\\nrank 1 | . . 1F0 . 1B0")
        >>> print(squeeze(loose).as_text().rpartition("legend")[0].rstrip())
        stage -> rank: 0 1; microbatches: 1
        rank 0 | 0F0 .   .   0B0
        rank 1 | .   1F0 1B0 .

    Source:
        Qi et al., "Pipeline Parallelism with Controllable Memory", arXiv 2405.15362, section 3.3.
    """
    ranks, columns = np.nonzero(table.cells != IDLE)
    codes, joined = table.cells[ranks, columns], table.joined[ranks, columns]
    slots = _slots(table, ranks, columns)
    cells = np.full((table.num_ranks, int(slots.max()) + 1), IDLE, np.int32)
    cells[ranks, slots] = codes
    if not table.has_overlaps:
        return Table(cells, table.placement, table.num_microbatches)
    pairs = np.zeros(cells.shape, bool)
    pairs[ranks, slots] = joined
    return Table(cells, table.placement, table.num_microbatches, pairs)


def _slots(table: Table, ranks: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The slot of each task, in the order of ranks and columns."""
    needs = dependencies(table)
    result, other, joined = (a[ranks, columns] for a in (needs.result, needs.other, table.joined))
    # The first of a pair waits for what the second needs too; then the second follows in the next slot.
    beside = np.where(joined, np.append(other[1:], IDLE), IDLE)
    other[1:][joined[:-1]] = IDLE
    there = np.full(4 * table.num_stages * table.num_microbatches + 1, NEVER, np.int32)
    there[IDLE] = 0  # the slot from which on a result is there; nothing is there always
    ends = np.searchsorted(ranks, np.arange(table.num_ranks), "right")
    slots, at, slot = np.zeros(len(ranks), np.int32), np.append(0, ends[:-1]), 0
    at, ends = at[at < ends], ends[at < ends]
    while at.size:
        ready = there[other[at]] <= slot
        if table.joined.strides != (0, 0):
            ready &= there[beside[at]] <= slot
        going = at[ready]
        if not going.size:
            raise ScheduleError("the ranks of the table wait for each other: fp.schedules.check(table) shows where.")
        slots[going] = slot
        there[result[going]] = slot + 1 + joined[going]
        at += ready
        if (at == ends).any():
            at, ends = at[at < ends], ends[at < ends]
        slot += 1
    return slots
