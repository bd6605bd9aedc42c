"""Running a table in simulated time, all ranks of a column in one step.

In a table that is drawn as it runs, everything that a column waits for is in the columns before. Any other table is run
in its rounds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from funpipe.schedules.columns import drawn_as_it_runs
from funpipe.schedules.communication import Transfers
from funpipe.schedules.dependencies import Dependencies, rounds
from funpipe.schedules.lanes import Lanes
from funpipe.schedules.table import Table


@dataclass(frozen=True)
class Run:
    """When everything happens, for each cell, column by column (see `Lanes`).

    Args:
        begin: when its rank is free and has what the cell waits for; it receives next.
        start: when its task starts.
        end: when its task ends; its rank sends next.
        clock: when its rank is done with it.
        there: when another rank can use its result, or begin to receive it; one entry more, 0, for no cell.
    """

    begin: np.ndarray
    start: np.ndarray
    end: np.ndarray
    clock: np.ndarray
    there: np.ndarray


def run(table: Table, needs: Dependencies, lanes: Lanes, transfers: Transfers) -> Run:
    """Runs a checked table: each rank in its row's order, each task as soon as what it needs is there."""
    begin, there = np.zeros(lanes.key.size), np.zeros(lanes.key.size + 1)
    clock, free = np.zeros(table.num_ranks), np.zeros(transfers.channel.size)
    paired = lanes.pairs.size > 0
    for ranks, at in turns(table, needs):
        first = np.maximum(clock[ranks], there[lanes.source[at]])
        if paired:
            first = np.maximum(first, there[lanes.beside[at]])
        begin[at] = first
        end = first + lanes.receive[at] + lanes.cost[at]
        key = lanes.key[at]
        if transfers.overlap:
            channel = transfers.channel[key]
            free[channel] = left = np.maximum(end, free[channel]) + transfers.wire[key]
            clock[ranks], there[at] = end, left + transfers.latency[key]
        else:
            clock[ranks], there[at] = end + transfers.send[key], end
    return _whole(lanes, transfers, begin, there)


def turns(table: Table, needs: Dependencies) -> Iterator[tuple[Any, Any]]:
    """The ranks that run a cell at once, and those cells' numbers; each cell comes after all that it waits for."""
    p = table.num_ranks
    if drawn_as_it_runs(table, needs):
        yield from ((slice(None), slice(cell, cell + p)) for cell in range(0, table.cells.size, p))
        return
    for ranks, slots in rounds(table, needs):
        second = table.joined[ranks, slots - 1] & (slots > 0)
        for some in (~second, second):
            if some.any():
                yield ranks[some], (slots * p + ranks)[some]


def _whole(lanes: Lanes, transfers: Transfers, begin: np.ndarray, there: np.ndarray) -> Run:
    """Computes again for all cells at once what the run did not keep."""
    start = begin + lanes.receive
    end = start + lanes.cost
    clock = end + transfers.send[lanes.key]
    seconds = lanes.pairs + lanes.num_ranks
    start[seconds], end[seconds] = start[lanes.pairs], end[lanes.pairs]
    return Run(begin, start, end, clock, there)
