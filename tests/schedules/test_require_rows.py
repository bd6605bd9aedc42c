import pytest

from funpipe._errors import ScheduleError
from funpipe.schedules import Overlap, Task
from funpipe.schedules.actions import Action
from funpipe.schedules.require_messages import Place
from funpipe.schedules.require_rows import none_missing, placement_of, require_dense, require_work, tasks_of

PAIR = Overlap(Task("F", 1, 1), Task("B", 1, 0))
ITEMS = [
    (Place(0, 0), Task("F", 0, 0)),
    (Place(0, 1), Action("SEND_F", 0, 0)),
    (Place(1, 3), PAIR),
]
TASKS = [(Place(0, 0), Task("F", 0, 0)), (Place(1, 3), PAIR.first), (Place(1, 3), PAIR.second)]


def where(place):
    return f"{place.rank}:{place.column}"


def test_tasks_with_their_places():
    assert tasks_of(ITEMS) == TASKS


def test_the_placement_is_found_or_confirmed():
    assert placement_of(TASKS, None, where) == placement_of(TASKS, [0, 1], where) == {0: 0, 1: 1}
    with pytest.raises(ScheduleError, match=r"1:3: 1F1: stage 1 is placed on rank 0; .*: move 1F1 to row 1\."):
        placement_of(TASKS, [0, 0], where)


def test_each_row_works():
    require_work(TASKS, 2, "file")
    with pytest.raises(ScheduleError, match=r"file, row 3: no task; every rank holds a stage"):
        require_work(TASKS, 3, "file")


def test_numbers_without_gaps():
    assert none_missing({0, 1, 2}, "stage", "file") == 3
    with pytest.raises(ScheduleError, match=r"file: no task is of stage 1, but one is of stage 2; number them"):
        none_missing({0, 2}, "stage", "file")


def test_long_rows_among_short_ones():
    rows = [[None] * 2**18, *([None] for _ in range(30))]
    with pytest.raises(ScheduleError, match=r"file, row 1 has 262144 cells, and all 31 rows together 262174"):
        require_dense(rows, rows, "file")
    require_dense(rows[:4], rows[:4], "file")
