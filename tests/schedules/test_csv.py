import os
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from funpipe._errors import ScheduleError
from funpipe.schedules import GPipe, OneFOneB, Overlap, Table, Task, check, csv
from tests.schedules.tables import tables

ONE_F_ONE_B = """\
0F0,0F1,,0B0,0F2,0B1,,0B2
,1F0,1B0,1F1,1B1,1F2,1B2,
"""


def in_order(table):
    return [table.order(rank) for rank in range(table.num_ranks)]


def error_of(text, **options):
    with pytest.raises(ScheduleError) as error:
        Table.parse_csv(text, **options)
    return str(error.value)


def test_one_row_per_rank():
    assert OneFOneB().table(2, 3).as_csv() == ONE_F_ONE_B
    assert Table.parse_csv(ONE_F_ONE_B) == OneFOneB().table(2, 3)


@given(tables())
def test_what_is_written_is_read(table):
    assert Table.parse_csv(table.as_csv()) == table


@given(tables())
def test_communication_is_checked_and_left_out(table):
    found = Table.parse_csv(table.as_csv(communication=True))
    assert in_order(found) == in_order(table)
    assert (found.placement, found.num_microbatches) == (table.placement, table.num_microbatches)


def test_two_at_once_are_one_cell():
    pair = Overlap(Task("F", 0, 1), Task("B", 0, 0))
    table = Table.from_rows([[Task("F", 0, 0), pair, None, Task("B", 0, 1)]], placement=(0,), num_microbatches=2)
    assert table.as_csv() == "0F0,(0F1;0B0)OVERLAP_F_B,,0B1\n"
    assert Table.parse_csv(table.as_csv()) == table


def test_a_pair_twice_is_not_one_pair():
    pair = "(0F1;0B0)OVERLAP_F_B"
    with pytest.raises(ScheduleError, match="was already computed by"):
        check(Table.parse_csv(f"0F0,{pair},{pair},0B1"))


def test_files(tmp_path):
    path = tmp_path / "table.csv"
    OneFOneB().table(2, 3).to_csv(path)
    assert path.read_text() == ONE_F_ONE_B
    assert Table.from_csv(path) == Table.from_csv(str(path)) == OneFOneB().table(2, 3)
    OneFOneB().table(2, 3).to_csv(path, communication=True)
    assert "0SEND_F0" in path.read_text()
    assert in_order(Table.from_csv(path)) == in_order(OneFOneB().table(2, 3))


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff0F0,0B0",
        "0F0,0B0\r\n",
        "0F0,0B0\r\n\r\n\r\n",
        '"0F0","0B0"\n',
        " 0F0 ,\t0B0",
    ],
)
def test_what_spreadsheets_make_of_it(text, tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode())
    assert in_order(Table.from_csv(path)) == [(Task("F", 0, 0), Task("B", 0, 0))]


def test_a_short_row_is_idle_at_its_end():
    assert Table.parse_csv("0F0,,,0B0\n,1F0,1B0") == GPipe().table(2, 1)


def test_the_placement_follows_from_the_rows():
    assert Table.parse_csv("0F0,3F0\n2F0,1F0").placement == (0, 1, 1, 0)


@pytest.mark.parametrize("ranks", [[0], [0, 0]])
def test_a_placement_may_be_an_array(ranks):
    assert Table.parse_csv("0F0,0B0", placement=np.array(ranks)).placement == tuple(ranks)


def test_a_given_placement_may_have_stages_without_tasks():
    assert Table.parse_csv("0F0,0B0", placement=(0, 0)).num_stages == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "0F0,0X0",
            "the text, row 1, column 2: '0X0' is nothing that a schedule knows; a cell is empty (idle), a task",
        ),
        ("0F0\n1F0,,1F0junk", "the text, row 2, column 3: '1F0junk' is nothing"),
        ("", "the text, row 1: no task; every rank holds a stage: remove the row, or fill it."),
        ("0F0\n\n1F0", "the text, row 2: no task;"),
        ("0F0\n,,", "the text, row 2: no task;"),
        ("0F0\n1UNSHARD", "the text, row 2: no task;"),
        ("0F0\n0B0", "row 2, column 1: 0B0: stage 0 is in row 1 (the text, row 1, column 1); a stage is on one rank: "),
        ("2F0\n1F0", "the text: no task is of stage 0, but one is of stage 2; number them from 0 without gaps."),
        ("0F999999999", "the text: no task is of microbatch 0, but one is of microbatch 999999999;"),
        ("999999999F0", "the text: no task is of stage 0, but one is of stage 999999999;"),
        ("0F9999999999", "'0F9999999999' is nothing that a schedule knows;"),
        ('"0F0', "the text is not CSV: unexpected end of data; write one row per rank, cells with commas between."),
        ("0F0," + "9" * 200_000, "the text is not CSV: field larger than field limit"),
    ],
)
def test_a_bad_text_is_an_error(text, message):
    assert message in error_of(text)


@pytest.mark.parametrize(
    ("placement", "message"),
    [
        ((), "placement=(); name a rank, from 0 on, for each stage."),
        ((0, -1), "placement=(0, -1); name a rank, from 0 on, for each stage."),
        ((0,), "row 1, column 2: 1F0: placement has stages 0 to 0 only; name its rank."),
        ((0, 1), "row 1, column 2: 1F0: stage 1 is placed on rank 1; a stage is on one rank: move 1F0 to row 2."),
    ],
)
def test_a_placement_that_the_rows_contradict(placement, message):
    assert message in error_of("0F0,1F0", placement=placement)


def test_few_cells_do_not_ask_for_a_large_grid():
    rows = ["0F0" + "," * 20_000, *(f"{rank}F0" for rank in range(1, 5000))]
    assert "row 1 has 20001 cells, and all 5000 rows together 25000; shorten that row." in error_of("\n".join(rows))


def test_an_error_names_the_file(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("0F0,oops")
    with pytest.raises(ScheduleError, match=rf"{re.escape(str(path))}, row 1, column 2: 'oops' is nothing"):
        Table.from_csv(path)


def test_what_is_no_text_file(tmp_path, monkeypatch):
    with pytest.raises(ScheduleError, match=r"is not a file; pass the path of a CSV file\."):
        Table.from_csv(tmp_path)
    with pytest.raises(ScheduleError, match="/dev/zero is not a file"):
        Table.from_csv("/dev/zero")
    (tmp_path / "binary").write_bytes(b"\x80\x00")
    with pytest.raises(ScheduleError, match=r"is not text: byte 0 is not UTF-8; pass a CSV file\."):
        Table.from_csv(tmp_path / "binary")
    monkeypatch.setattr(csv, "MAX_BYTES", 1)
    with pytest.raises(ScheduleError, match=r"has 2 bytes; a table's file has at most 1\."):
        Table.from_csv(tmp_path / "binary")
    with pytest.raises(FileNotFoundError):
        Table.from_csv(tmp_path / "nothing")


@pytest.mark.parametrize("text", [",,,,", "\n\n\n\n", "\r\r\r\r"])
def test_empty_cells_are_counted_before_anything_is_made_of_them(text, monkeypatch):
    monkeypatch.setattr(csv, "MAX_CELLS", 4)
    assert error_of(text) == "the text has up to 5 cells; a table's file has at most 4."


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ScheduleError, match="is not a file"):
        Table.from_csv(tmp_path / "pipe")


def reads_or_raises(text):
    try:
        table = Table.parse_csv(text)
    except ScheduleError:
        return
    assert Table.parse_csv(table.as_csv()) == table


cells = st.from_regex(
    r"\(?(0|1|2|12)(F|B|I|W|UNSHARD|SEND_F|RECV_B|OVERLAP_F_B)[0-2]?(;0B0\)OVERLAP_F_B)?( |\"|x)?", fullmatch=True
)


@given(st.lists(st.lists(st.just("") | cells, max_size=4).map(",".join), max_size=3).map("\n".join))
def test_any_grid_is_read_or_refused(text):
    reads_or_raises(text)


@given(
    st.text(alphabet=st.sampled_from(list('0123FBIW,;()"\n\r\t \x00_OVERLAPSENDxé')), max_size=40)
    | st.text(max_size=40)
)
def test_any_text_is_read_or_refused(text):
    reads_or_raises(text)


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "bytes.csv"
    path.write_bytes(data)
    try:
        Table.from_csv(path)
    except ScheduleError:
        pass
