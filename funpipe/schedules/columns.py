"""Whether a table is drawn as it runs: everything that a cell waits for is there before its column.

The ranks of such a table can run column by column, and there is no deadlock, whatever the tasks take. Of two cells that
run together both begin in the first one's column, and leave their results after the second one's.
"""

import numpy as np

from funpipe.schedules.codes import IDLE
from funpipe.schedules.dependencies import Dependencies
from funpipe.schedules.table import Table


def drawn_as_it_runs(table: Table, needs: Dependencies) -> bool:
    """Whether what comes from other stages is there before the column of each cell.

    Args:
        table: a table with each task at most once, those of a stage in order.
        needs: its dependencies.
    """
    begins, leaves = _columns(table)
    return bool((columns_of_results(table, needs, leaves)[needs.other] < begins).all())


def columns_of_results(table: Table, needs: Dependencies, leaves: np.ndarray) -> np.ndarray:
    """The column after which each result is there, by its code, given that of each cell; -1 for none."""
    left = np.full(4 * table.num_stages * table.num_microbatches + 1, -1, np.int32)
    left[needs.result] = leaves
    left[IDLE] = -1
    return left


def _columns(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """The column in which each cell begins, and the one after which its result is there; int32, not to be written."""
    column = np.broadcast_to(np.arange(table.num_slots, dtype=np.int32), table.cells.shape)
    if not table.has_overlaps:
        return column, column
    begins = column.copy()
    begins[:, 1:] -= table.joined[:, :-1]
    return begins, column + table.joined
