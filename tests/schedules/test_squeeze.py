import numpy as np
import pytest
from hypothesis import given

from funpipe._errors import ScheduleError
from funpipe.schedules import DualPipeV, GPipe, Table, check, simulate, squeeze
from tests.schedules.plain import paired_tables


@given(paired_tables())
def test_squeezing_keeps_every_order(table):
    squeezed = squeeze(table)
    check(squeezed)
    assert squeezed.placement == table.placement
    assert [squeezed.order(r) for r in range(table.num_ranks)] == [table.order(r) for r in range(table.num_ranks)]


@given(paired_tables())
def test_the_grid_is_the_simulation_with_tasks_of_one_slot(table):
    squeezed = squeeze(table)
    start = simulate(squeezed, F=1, B=1, I=1, W=1).start
    ranks, slots = np.nonzero(squeezed.cells >= 0)
    second = np.zeros(squeezed.cells.shape, int)
    second[:, 1:] = squeezed.joined[:, :-1]
    assert (start[ranks, slots] == (np.arange(squeezed.num_slots) - second)[ranks, slots]).all()


@pytest.mark.parametrize("table", [GPipe().table(3, 5), DualPipeV().table(3, 7)])
def test_a_squeezed_table_stays_as_it_is(table):
    assert squeeze(table) == table


def test_ranks_that_wait_for_each_other_cannot_be_squeezed():
    text = "stage -> rank: 0 1; microbatches: 2\nrank 0 | 0F0 0B0 0F1 0B1\nrank 1 | 1F1 1F0 1B0 1B1"
    with pytest.raises(ScheduleError, match=r"wait for each other: fp.schedules.check\(table\) shows where"):
        squeeze(Table.parse(text))
