import pytest
from hypothesis import given
from hypothesis import strategies as st

from funpipe._errors import ScheduleError
from funpipe.schedules import GPipe, Table
from funpipe.schedules.text import grid
from tests.schedules.plain import paired_tables
from tests.schedules.tables import tables

PICTURE = """\
stage -> rank: 0 1; microbatches: 1
rank 0 | 0F0 .   .   0B0
rank 1 | .   1F0 1B0 .
legend: 2F0 is F of stage 2, microbatch 0; F forward, B backward, I input gradient, W weight gradient, . idle; \
time runs to the right"""


def test_the_whole_text():
    assert GPipe().table(2, 1).as_text() == PICTURE


@given(tables())
def test_parse_reads_what_as_text_writes(table):
    assert Table.parse(table.as_text()) == table
    assert Table.parse(table.as_text()).as_text() == table.as_text()


def test_columns_and_ranks_are_aligned():
    lines = GPipe().table(11, 11).as_text().splitlines()
    assert lines[1].startswith("rank  0 | 0F0 ")
    assert lines[11].startswith("rank 10 | .   ")
    assert lines[1].index("0B0") == lines[2].index("1B1")


def test_a_hand_written_table_needs_no_legend_and_no_alignment():
    text = "\n  stage -> rank: 0 1; microbatches: 1\n rank 0 | 0F0 . . 0B0\n rank 1 | . 1F0 1B0\n"
    assert Table.parse(text) == GPipe().table(2, 1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("stage -> rank: 0 1", "stages: 0 1", "line 1 is .*; begin with a line like 'stage -> rank: 0 1; microbatches"),
        ("rank 1 |", "rank 2 |", "line 3 is 'rank 2 .*; the row of rank 1 begins with 'rank 1 |'"),
        ("rank 1 |", "1:", "line 3 is '1: .*; the row of rank 1 begins"),
        ("1F0 1B0", "1F0 1Q0", r"rank 1, slot 2: '1Q0' is not a task; .* like 2F0\. An idle slot is '\.'\."),
        ("1F0 1B0", "1F0 1B0junk", "rank 1, slot 2: '1B0junk' is not a task"),
        ("1F0 1B0", "1F0 5B0", "5B0 on rank 1, slot 2 is out of range"),
        ("microbatches: 1", "microbatches: 999999999", "use at most 134217728 microbatches"),
    ],
)
def test_a_bad_text_names_the_place_and_the_remedy(old, new, message):
    with pytest.raises(ScheduleError, match=message):
        Table.parse(PICTURE.replace(old, new))


@given(st.text())
def test_no_text_gives_another_error(text):
    with pytest.raises(ScheduleError):
        Table.parse(text)


def test_overlaps_take_two_columns():
    cells = [["0F0", "0F1", ".", ".", "0F2"], [".", "1F0&0B1", "", "1B2", "1B3"], [".", "1F0", "1F19&1B1", "", "."]]
    assert [line.split("| ")[1] for line in grid(dict(enumerate(cells)))] == [
        "0F0 0F1 .   .    0F2",
        ".   1F0&0B1 1B2  1B3",
        ".   1F0 1F19&1B1 .",
    ]


@given(paired_tables())
def test_parse_reads_overlaps(table):
    assert Table.parse(table.as_text()) == table
    assert len({line.rstrip().find("|") for line in table.as_text().splitlines()[1:-1]}) == 1


def test_a_bad_overlap_names_its_place():
    text = "stage -> rank: 0; microbatches: 2\nrank 0 | 0F0 0F1&0F0 0B0"
    with pytest.raises(ScheduleError, match=r"rank 0, slot 1: 0F1&0F0 is no overlap; .* An idle slot is"):
        Table.parse(text)
