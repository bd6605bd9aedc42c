import pytest

from funpipe._errors import FunpipeTypeError, ScheduleError
from funpipe.schedules import FromTable, GPipe, OneFOneB, get, resolve


@pytest.mark.parametrize(
    ("name", "schedule"), [("gpipe", GPipe), ("1f1b", OneFOneB), ("onefoneb", OneFOneB), ("1F1B", OneFOneB)]
)
def test_get_by_name(name, schedule):
    assert get(name) is schedule


def test_unknown_name_lists_the_nearest_and_all():
    with pytest.raises(ScheduleError, match="'gpip'; use .* nearest: gpipe; all: gpipe, onefoneb, 1f1b"):
        get("gpip")


def test_a_name_near_to_none_lists_all():
    with pytest.raises(ScheduleError, match=r"'xyz'; use a name of the list \(all: gpipe"):
        get("xyz")


def test_resolve_takes_a_name_a_schedule_or_a_table():
    table = GPipe().table(2, 2)
    assert resolve("1f1b") == OneFOneB()
    assert resolve(GPipe()) == GPipe()
    assert resolve(table) == FromTable(table)


def test_resolve_asks_for_an_instance():
    with pytest.raises(FunpipeTypeError, match=r"is the class GPipe; make one: GPipe\(\)\."):
        resolve(GPipe)  # pyright: ignore[reportArgumentType]


def test_resolve_refuses_the_rest():
    with pytest.raises(FunpipeTypeError, match="schedule is a int; pass a name, a Schedule or a Table"):
        resolve(3)  # pyright: ignore[reportArgumentType]
