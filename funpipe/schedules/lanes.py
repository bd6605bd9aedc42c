"""The cells of a table column by column, as they run.

Cell (rank, slot) has the number `slot * num_ranks + rank`, and arrays over all cells have that order: what happens in
one column lies together. Such an array is laid out here once for what each cell is, waits for and takes.

Of two cells that run together the first stands for both: it waits for what either needs, and takes the time of the
pair. The second begins and ends with it and takes no time of its own.
"""

from dataclasses import dataclass

import numpy as np

from funpipe.schedules.codes import IDLE
from funpipe.schedules.communication import Transfers
from funpipe.schedules.dependencies import Dependencies
from funpipe.schedules.keys import keys
from funpipe.schedules.table import Table

NONE = -1
"""The number of no cell; arrays that are indexed by it have one entry more, the last."""


@dataclass(frozen=True)
class Lanes:
    """What a checked table's cells are and take, column by column.

    Args:
        num_ranks: how many cells a column has.
        key: the key of each cell.
        source: the cell whose result it waits for from the stage before or after, or none.
        cost: the time of its task; 0 where idle.
        receive: how long its rank is busy receiving before it starts.
        pairs: the first cells of those that run together; the second is one column on.
        beside: for each cell of `pairs` what the second one waits for, as `source`; none for all others.
    """

    num_ranks: int
    key: np.ndarray
    source: np.ndarray
    cost: np.ndarray
    receive: np.ndarray
    pairs: np.ndarray
    beside: np.ndarray


def lanes(table: Table, needs: Dependencies, transfers: Transfers, cost: np.ndarray, FB: np.ndarray | None) -> Lanes:
    """The lanes of a checked table.

    Args:
        table: the table.
        needs: its dependencies.
        transfers: its messages.
        cost: the time of each task by key.
        FB: the time of two tasks that run together, for each rank; None: the sum of both.
    """
    key = keys(table.cells.T.ravel(), table.num_microbatches)
    pairs = np.flatnonzero(table.joined.T) if table.has_overlaps else np.empty(0, np.int64)
    source = _sources(table, needs)
    costs, receive = cost[key], transfers.receive[key]
    beside = np.full(source.shape if pairs.size else (), NONE, np.int32)
    if pairs.size:
        seconds = pairs + table.num_ranks
        beside[pairs], source[seconds] = source[seconds], NONE
        costs[pairs] = costs[pairs] + costs[seconds] if FB is None else FB[pairs % table.num_ranks]
        receive[pairs] += receive[seconds]
        costs[seconds] = receive[seconds] = 0.0
    return Lanes(table.num_ranks, key, source, costs, receive, pairs, np.broadcast_to(beside, source.shape))


def _sources(table: Table, needs: Dependencies) -> np.ndarray:
    """The cell that leaves what each cell waits for from another stage."""
    cell_of = np.full(4 * table.num_stages * table.num_microbatches + 1, NONE, np.int32)
    cell_of[needs.result.T.ravel()] = np.arange(table.cells.size, dtype=np.int32)
    cell_of[IDLE] = NONE
    return cell_of[needs.other.T.ravel()]
