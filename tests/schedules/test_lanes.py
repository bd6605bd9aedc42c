import numpy as np
from hypothesis import given

from funpipe.schedules import Communication, Overlap, Table, Task
from funpipe.schedules.codes import unpack
from funpipe.schedules.communication import transfers
from funpipe.schedules.dependencies import dependencies
from funpipe.schedules.keys import by_key
from funpipe.schedules.lanes import lanes
from tests.schedules.plain import paired_tables, parts
from tests.schedules.tables import needs


def lanes_of(table, FB=None, **communication):
    cost = by_key(*np.arange(1.0, 4.0 * table.num_stages + 1).reshape(4, table.num_stages))
    return lanes(table, dependencies(table), transfers(table, Communication(**communication)), cost, FB)


@given(paired_tables())
def test_the_first_cell_of_what_runs_together_waits_for_what_either_needs(table):
    cells, found = table.cells.T.ravel(), lanes_of(table)
    for rank, row in enumerate(table.rows):
        for slot, item in enumerate(row):
            cell = slot * table.num_ranks + rank
            second = slot > 0 and table.joined[rank, slot - 1]
            awaited = {int(n) for n in (found.source[cell], found.beside[cell]) if n >= 0}
            tasks = {unpack(cells[number], table.num_microbatches) for number in awaited}
            assert tasks == (set() if second or item is None else others(table, parts(item)))


def others(table, tasks):
    """What tasks wait for from other stages, as the table has it."""
    mine = {t for rank in range(table.num_ranks) for item in table.order(rank) for t in parts(item)}
    options = [(task, option) for task in tasks for some in needs(task, table.num_stages) for option in some]
    return {option for task, option in options if option.stage != task.stage and option in mine}


def test_two_that_run_together_take_their_time_in_the_first_cell():
    pair = Overlap(Task("F", 0, 1), Task("B", 1, 0))
    rest = [Task("B", 0, 0), Task("F", 1, 1), Task("B", 1, 1), Task("B", 0, 1)]
    table = Table.from_rows([[Task("F", 0, 0), Task("F", 1, 0), pair, *rest]], placement=(0, 0), num_microbatches=2)
    assert lanes_of(table).cost[2:4].tolist() == [1.0 + 4.0, 0.0]
    assert lanes_of(table, FB=np.array([4.5])).cost[2:4].tolist() == [4.5, 0.0]
    assert lanes_of(table).pairs.tolist() == [2]
