"""From the rows of a search to a table, and back."""

import numpy as np

from funpipe.schedules.codes import IDLE
from funpipe.schedules.search_clock import Found
from funpipe.schedules.search_graph import F, Graph, I, Rows, W
from funpipe.schedules.table import Table
from funpipe.schedules.task import KINDS, Kind


def table_of(found: Found) -> Table:
    """The table of rows, drawn as they run when every task takes one slot."""
    graph, problem = found.graph, found.graph.problem
    free, slot = [0] * problem.num_ranks, [-1] * (graph.none + 1)
    for number in found.times.order:
        rank = graph.rank[number]
        slot[number] = max(free[rank], slot[graph.need[number]] + 1)
        free[rank] = slot[number] + 1
    grid = np.array(slot[:-1]).reshape(problem.num_stages, problem.num_microbatches, 3)
    kinds: tuple[Kind, ...] = ("F", "I", "W") if problem.split else ("F", "B")
    return Table.from_slots({kind: grid[:, :, k] for k, kind in enumerate(kinds)}, placement=problem.placement)


def rows_of(graph: Graph, table: Table) -> Rows:
    """The rows of a table without pairs; where backwards are split, a B is read as I and then W."""
    numbers = {"F": [F], "B": [I, W] if graph.problem.split else [I], "I": [I], "W": [W]}
    codes = [cells[cells != IDLE].tolist() for cells in table.cells]
    return [[code // 4 * 3 + kind for code in row for kind in numbers[KINDS[code % 4]]] for row in codes]
