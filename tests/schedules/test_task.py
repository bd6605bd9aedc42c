import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funpipe._errors import ScheduleError
from funpipe.schedules import Overlap, Task

tasks = st.builds(Task, st.sampled_from("FBIW"), st.integers(0, 10**9 - 1), st.integers(0, 10**9 - 1))


def test_text_is_stage_kind_microbatch():
    assert str(Task("F", 2, 0)) == "2F0"


@given(tasks)
def test_parse_reads_what_str_writes(task):
    assert Task.parse(str(task)) == task


@given(tasks, tasks)
def test_tasks_order_as_tuples(a, b):
    assert (a < b) == (dataclasses.astuple(a) < dataclasses.astuple(b))


@pytest.mark.parametrize(
    "junk", ["", "2F", "F0", "2F0junk", " 2F0", "2F0\n", "2X0", "2f0", "-1F0", "02F0", "2F٣", "1F1000000000"]
)
def test_parse_refuses_everything_else(junk):
    with pytest.raises(ScheduleError, match="is not a task; write stage, kind"):
        Task.parse(junk)


def test_parse_does_not_repeat_a_long_text():
    with pytest.raises(ScheduleError) as error:
        Task.parse("9" * 100_000)
    assert len(str(error.value)) < 200


@given(st.text())
def test_parse_gives_a_task_or_its_own_error(text):
    try:
        assert str(Task.parse(text)) == text
    except ScheduleError:
        pass


def test_unknown_kind_names_the_kinds():
    with pytest.raises(ScheduleError, match=r"kind 'X'; use one of F, B, I, W\."):
        Task("X", 0, 0)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("stage", [-1, 0.5, "0"])
def test_stage_is_an_integer_from_0(stage):
    with pytest.raises(ScheduleError, match="stage .* from 0 on"):
        Task("F", stage, 0)


def test_tasks_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Task("F", 0, 0).stage = 1  # pyright: ignore[reportAttributeAccessIssue]


def test_an_overlap_is_written_with_an_ampersand():
    pair = Overlap(Task("F", 0, 1), Task("B", 3, 0))
    assert str(pair) == "0F1&3B0"
    assert Overlap.parse("0F1&3B0") == pair
    assert list(pair) == [pair.first, pair.second]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0F1", "'0F1' is not an overlap; write a forward, &, a backward, like 0F1&3B0"),
        ("0F1&", "'' is not a task"),
        ("0F1&0F2", "0F1&0F2 is no overlap; write a forward, then a backward"),
        ("0B1&0F2", "0B1&0F2 is no overlap"),
        ("0F1&0B0&0B2", "'0B0&0B2' is not a task"),
        ("0F1&0B1", "0F1&0B1: the backward needs this very forward; overlap two different microbatches"),
    ],
)
def test_what_is_no_overlap(text, message):
    with pytest.raises(ScheduleError, match=message):
        Overlap.parse(text)


@given(st.text())
def test_no_text_gives_another_error_for_an_overlap(text):
    with pytest.raises(ScheduleError):
        Overlap.parse(text)
