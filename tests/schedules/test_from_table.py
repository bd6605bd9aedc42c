import pytest

from funpipe._errors import ScheduleError
from funpipe.schedules import FromTable, OneFOneB, Table, Task

MINE = OneFOneB().table(2, 4)


def test_gives_the_table():
    schedule = FromTable(MINE)
    assert schedule.table(2, 4) is MINE
    assert schedule.placement(2) == (0, 1)
    assert schedule.num_stages(2) == 2


@pytest.mark.parametrize(
    ("p", "m", "message"),
    [
        (3, 4, r"for num_ranks=2 only, not 3; use num_ranks=2\."),
        (2, 8, r"only, not 8; use num_microbatches=4\."),
    ],
)
def test_exists_for_its_own_numbers_only(p, m, message):
    with pytest.raises(ScheduleError, match=message):
        FromTable(MINE).table(p, m)


def test_refuses_a_table_that_cannot_run():
    with pytest.raises(ScheduleError, match="rank 0 never runs 0W0"):
        FromTable(Table.from_rows([[Task("F", 0, 0), Task("I", 0, 0)]], placement=(0,), num_microbatches=1))


def test_is_a_value():
    assert FromTable(MINE) == FromTable(OneFOneB().table(2, 4))
    assert hash(FromTable(MINE)) == hash(FromTable(OneFOneB().table(2, 4)))
