import pytest
from hypothesis import given
from hypothesis import strategies as st

from funpipe.schedules import GPipe, OneFOneB, Overlap, Table, Task, check
from funpipe.schedules.columns import drawn_as_it_runs
from funpipe.schedules.dependencies import dependencies
from funpipe.schedules.registry import SCHEDULES
from tests.schedules.plain import paired_tables
from tests.schedules.tables import can_run


def is_drawn(table):
    return drawn_as_it_runs(table, dependencies(table))


def runs_column_by_column(table):
    """A plain reading: what begins in a column can run after what ended in the columns before."""
    done, open_pair = set(), {}
    for slot in range(table.num_slots):
        cells = {rank: row[slot] for rank, row in enumerate(table.rows) if row[slot] is not None}
        begins = [t for r, cell in cells.items() if r not in open_pair for t in tasks_of(cell)]
        if not all(can_run(task, done, table.num_stages) for task in begins):
            return False
        ended = {r for r, cell in cells.items() if r in open_pair or not isinstance(cell, Overlap)}
        done |= {task for rank in ended for task in tasks_of(cells[rank])}
        open_pair = {rank: cell for rank, cell in cells.items() if rank not in ended}
    return True


def tasks_of(cell):
    return [cell.first, cell.second] if isinstance(cell, Overlap) else [cell]


@given(st.one_of(paired_tables(), st.sampled_from([GPipe().table(3, 4), OneFOneB().table(4, 3)])))
def test_it_is_what_running_column_by_column_says(table):
    assert is_drawn(table) == runs_column_by_column(table)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_schedules_are_drawn_as_they_run(name):
    assert is_drawn(SCHEDULES[name]().table(4, 16))


# What runs together begins in its first column, and leaves its results after its second one:
#
#   rank 0 | 0F0 .   .   3F0 3B0 .   .
#   rank 1 | .   1F0 2F0 .   .   1F1&2B0        one column to the left it would begin beside 3B0, which it needs
@pytest.mark.parametrize(("wait", "drawn"), [(0, False), (1, True)])
def test_what_runs_together_begins_in_its_first_column(wait, drawn):
    rows = [
        "0F0 0F1 . 3F0 3B0 . . . . 3F1 3B1 0B0 . . 0B1",
        f". 1F0 2F0 . {'. ' * wait}1F1&2B0 2F1 1B0 . . . 2B1 1B1",
    ]
    assert is_drawn(v_of(*rows)) == drawn


#   rank 0 | 0F0 .   .   3F0 0F1&3B0 .
#   rank 1 | .   1F0 2F0 .   .   .   1F1        one column to the left it would begin before 0F1 has ended
@pytest.mark.parametrize(("wait", "drawn"), [(0, False), (1, True)])
def test_what_runs_together_leaves_its_results_after_its_second_column(wait, drawn):
    rows = [
        "0F0 . . 3F0 0F1&3B0 . . . 3F1 3B1 0B0 . . 0B1",
        f". 1F0 2F0 . . {'. ' * wait}1F1 2F1 2B0 1B0 . . 2B1 1B1",
    ]
    assert is_drawn(v_of(*rows)) == drawn


def v_of(*rows):
    """A V on two ranks, with two microbatches."""
    cells = [[None if c == "." else (Overlap if "&" in c else Task).parse(c) for c in row.split()] for row in rows]
    table = Table.from_rows(cells, placement=(0, 1, 1, 0), num_microbatches=2)
    check(table)
    return table
