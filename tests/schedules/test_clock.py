import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from funpipe.schedules import GPipe
from funpipe.schedules.clock import turns
from funpipe.schedules.codes import unpack
from funpipe.schedules.columns import drawn_as_it_runs
from funpipe.schedules.dependencies import dependencies
from tests.schedules.plain import paired_tables
from tests.schedules.tables import can_run


def numbers(table, ranks, at):
    """The cells of a turn by their numbers, column by column, and the ranks as numbers."""
    return np.arange(table.num_ranks)[ranks].tolist(), np.arange(table.cells.size)[at].tolist()


@given(st.one_of(paired_tables(), st.just(GPipe().table(3, 4))))
def test_each_cell_has_its_turn_after_what_it_waits_for(table):
    columns, done, seen = table.cells.T.ravel(), set(), []
    for turn in turns(table, dependencies(table)):
        ranks, cells = numbers(table, *turn)
        assert [cell % table.num_ranks for cell in cells] == ranks
        assert len(set(ranks)) == len(ranks)
        tasks = {unpack(columns[cell], table.num_microbatches) for cell in cells if columns[cell] >= 0}
        assert all(can_run(task, done, table.num_stages) for task in tasks)
        done |= tasks
        seen += cells
    assert sorted(seen) == list(range(table.cells.size))


def test_a_table_that_is_drawn_as_it_runs_goes_column_by_column():
    table = GPipe().table(3, 4)
    assert drawn_as_it_runs(table, dependencies(table))
    for slot, turn in enumerate(turns(table, dependencies(table))):
        assert numbers(table, *turn) == ([0, 1, 2], [3 * slot, 3 * slot + 1, 3 * slot + 2])
