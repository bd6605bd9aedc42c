"""All ranks of a table played by one: the same tasks in one order that every rank's own order is a part of."""

import numpy as np

from funpipe._errors import ScheduleError
from funpipe.schedules.codes import IDLE, is_kind
from funpipe.schedules.dependencies import dependencies, rounds
from funpipe.schedules.table import Table


def merge(table: Table) -> Table:
    """The table of one rank that runs every task of another table.

    Ranks take turns, one cell each, as soon as what it needs is there; each rank's own order is kept, so activations
    live no longer than they do on several ranks.

    Args:
        table: a table whose ranks can run their rows without a deadlock.

    Returns:
        A table with one row, all stages on rank 0.

    Raises:
        ScheduleError: the ranks of the table wait for each other.

    Example:
        >>> from funpipe.schedules import GPipe
        >>> print(*merge(GPipe().table(2, 2)).order(0))
        0F0 0F1 1F0 1F1 1B0 0B0 1B1 0B1
    """
    turns = [(table.cells[at], table.joined[at]) for at in rounds(table, dependencies(table))]
    codes = np.concatenate([codes for codes, _ in turns]) if turns else np.empty(0, np.int32)
    if codes.size < table.cells.size:
        raise ScheduleError(
            f"the ranks of the table wait for each other after {np.count_nonzero(codes != IDLE)} of its "
            f"{np.count_nonzero(table.cells != IDLE)} tasks, so no single order has them all: "
            "fp.schedules.check(table) shows where; reorder the rows."
        )
    joined, works = np.concatenate([joined for _, joined in turns]), codes != IDLE
    return Table(codes[works][None], (0,) * table.num_stages, table.num_microbatches, joined[works][None])


def forward_only(table: Table) -> Table:
    """The forward tasks of a table, in their order: the schedule of an evaluation.

    Args:
        table: any table.

    Returns:
        A table with the same placement.

    Example:
        >>> from funpipe.schedules import GPipe
        >>> print(*forward_only(GPipe().table(1, 2)).order(0))
        0F0 0F1
    """
    rows = [cells[is_kind(cells, "F")] for cells in table.cells]
    cells = np.full((table.num_ranks, max(map(len, rows))), IDLE, np.int32)
    for rank, row in enumerate(rows):
        cells[rank, : len(row)] = row
    return Table(cells, table.placement, table.num_microbatches)
