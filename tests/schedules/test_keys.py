import numpy as np
from hypothesis import given

from funpipe.schedules.keys import by_key, keys
from tests.schedules.tables import tables


@given(tables())
def test_one_look_up_gives_each_cell_the_number_of_its_stage_and_kind(table):
    stages = np.arange(1.0, 1.0 + table.num_stages)
    numbers = by_key(stages, 10 * stages, 100 * stages, 1000 * stages)
    found = numbers[keys(table.cells, table.num_microbatches)]
    for rank, row in enumerate(table.rows):
        for slot, task in enumerate(row):
            times = {"F": 1, "B": 10, "I": 100, "W": 1000}
            assert found[rank, slot] == (0 if task is None else (task.stage + 1) * times[task.kind])


def test_truths_stay_truths():
    yes, no = np.array([True]), np.array([False])
    assert by_key(yes, no, yes, no).tolist() == [True, False, True, False, False]
    assert by_key(yes, no, yes, no).dtype == bool
