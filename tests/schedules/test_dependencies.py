import numpy as np
from hypothesis import given

from funpipe.schedules import GPipe, Task
from funpipe.schedules.codes import IDLE, unpack
from funpipe.schedules.dependencies import dependencies, rounds
from tests.schedules.tables import needs, tables


@given(tables())
def test_dependencies_are_the_rules_task_by_task(table):
    found = dependencies(table)
    for rank, row in enumerate(table.rows):
        for slot, task in enumerate(row):
            codes = (int(found.own[rank, slot]), int(found.other[rank, slot]))
            waits = {unpack(code, table.num_microbatches) for code in codes if code != IDLE}
            rules = needs(task, table.num_stages) if task else []
            assert waits == {next(t for t in options if t.kind in "FI") for options in rules}


def test_a_whole_backward_leaves_the_gradient_of_the_inputs():
    table = GPipe().table(1, 1)
    assert unpack(int(dependencies(table).result[0, 1]), 1) == Task("I", 0, 0)


@given(tables())
def test_rounds_reach_every_cell_once(table):
    reached = np.zeros(table.cells.shape, int)
    for ranks, slots in rounds(table, dependencies(table)):
        reached[ranks, slots] += 1
    assert (reached == 1).all()


def test_a_round_is_a_slot_where_the_table_is_drawn_as_it_runs():
    table = GPipe().table(3, 4)
    for number, (ranks, slots) in enumerate(rounds(table, dependencies(table))):
        assert (ranks == np.arange(3)).all()
        assert (slots == number).all()
