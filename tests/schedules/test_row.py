import pytest
from hypothesis import given

from funpipe.schedules import Overlap, Table, Task
from tests.schedules.tables import tables

F0, F1, B0, B1 = Task("F", 0, 0), Task("F", 0, 1), Task("B", 0, 0), Task("B", 0, 1)
PAIR = Overlap(F1, B0)


@pytest.fixture
def row():
    """Slots: F0, idle, a pair in two slots, B1."""
    return Table.from_rows([[F0, None, PAIR, B1]], placement=(0,), num_microbatches=2).rows[0]


def test_a_pair_takes_two_slots_and_reads_as_itself_in_both(row):
    assert list(row) == [F0, None, PAIR, PAIR, B1]


def test_the_second_slots_of_pairs(row):
    assert row.second.tolist() == [False, False, False, True, False]


def test_a_part_of_a_row_knows_what_is_left_of_it(row):
    """The part begins in the middle of the pair, which is then neither begun nor read twice."""
    assert row[3:].second.tolist() == [True, False] and row[3:].order() == (B1,)
    assert row[1:4].order() == (PAIR,) and len(row[:0].second) == 0


@given(tables())
def test_the_order_is_the_row_without_idle_cells_and_each_pair_once(table):
    for row in table.rows:
        pairs = zip(row, row.second, strict=True)
        assert row.order() == tuple(cell for cell, second in pairs if cell is not None and not second)
