import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funpipe._errors import ScheduleError
from funpipe.schedules import Overlap, Task
from funpipe.schedules.actions import MESSAGE_KINDS, STAGE_KINDS, Action, read_cell, write_cell
from funpipe.schedules.task import KINDS

numbers = st.integers(0, 999_999_999)
tasks = st.builds(Task, st.sampled_from(KINDS), numbers, numbers)
actions = st.builds(Action, st.sampled_from(MESSAGE_KINDS), numbers, numbers) | st.builds(
    Action, st.sampled_from(STAGE_KINDS), numbers, st.none()
)
overlaps = st.builds(
    lambda s, i, j: Overlap(Task("F", s, i), Task("B", s + 1, j)), st.integers(0, 99), numbers, numbers
)


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("", None),
        (" \t", None),
        ("2F0", Task("F", 2, 0)),
        (" 10W11 ", Task("W", 10, 11)),
        ("3SEND_F1", Action("SEND_F", 3, 1)),
        ("0RECV_B12", Action("RECV_B", 0, 12)),
        ("1UNSHARD", Action("UNSHARD", 1)),
        ("1REDUCE_GRAD", Action("REDUCE_GRAD", 1)),
        ("(0F1;3B0)OVERLAP_F_B", Overlap(Task("F", 0, 1), Task("B", 3, 0))),
        ("( 0F1 ; 3I0 )OVERLAP_F_B", Overlap(Task("F", 0, 1), Task("I", 3, 0))),
    ],
)
def test_reads(text, cell):
    assert read_cell(text) == cell


@given(st.none() | tasks | actions | overlaps)
def test_what_is_written_is_read(cell):
    assert read_cell(write_cell(cell)) == cell


@pytest.mark.parametrize(
    "text",
    [
        "0F0junk",
        "0F0 0F1",
        "F0",
        "0F",
        "0f0",
        "0X0",
        "-1F0",
        "00F0",
        "0F1234567890",
        "٣F0",
        "0F0\n",
        "0F0\x00",
        "0UNSHARD3",
        "0SEND_F",
        "()OVERLAP_F_B",
        "(0F1)OVERLAP_F_B",
        "(0F1;3B0;1B1)OVERLAP_F_B",
        "((0F1;3B0)OVERLAP_F_B;1B1)OVERLAP_F_B",
        "(0F1;3B0",
        "0F1;3B0",
        "(0F1;3B0)",
        "(0F1;3B0)OVERLAP_F_Bjunk",
        "(0F1;3B0)F",
        "__import__('os').system('true')",
        "=1+1",
    ],
)
def test_anything_else_is_an_error_that_says_what_is_allowed(text):
    with pytest.raises(
        ScheduleError, match=r"is nothing that a schedule knows; a cell is empty \(idle\), a task like 2F0"
    ):
        read_cell(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(0F1;3SEND_B0)OVERLAP_F_B", "3SEND_B0 is no task; two at once are tasks, like (2F1;5B0)OVERLAP_F_B."),
        ("(3B0;0F1)OVERLAP_F_B", "is no overlap; write a forward, then a backward"),
        ("(0F1;0B1)OVERLAP_F_B", "overlap two different microbatches"),
    ],
)
def test_two_at_once_are_a_forward_and_a_backward(text, message):
    with pytest.raises(ScheduleError, match=re.escape(message)):
        read_cell(text)


def test_an_error_shows_no_raw_characters_of_a_file_and_not_all_of_them():
    with pytest.raises(ScheduleError) as error:
        read_cell("\x1b[31m" + "é" * 100_000)
    assert str(error.value).isascii()
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 700
