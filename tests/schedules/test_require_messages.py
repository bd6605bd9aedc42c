import pytest
from hypothesis import given
from hypothesis import strategies as st

from funpipe._errors import ScheduleError
from funpipe.schedules import Table
from tests.schedules.tables import tables

# Two ranks, two microbatches, all forwards first.
GOOD = """\
0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0,0RECV_B1,0B1
1RECV_F0,1F0,1RECV_F1,1F1,1B0,1SEND_B0,1B1,1SEND_B1
"""


def error_of(text):
    with pytest.raises(ScheduleError) as error:
        Table.parse_csv(text)
    return str(error.value).removeprefix("the text, ")


def changed(old, new):
    assert GOOD.count(old) == 1
    return error_of(GOOD.replace(old, new))


def test_good():
    assert [len(Table.parse_csv(GOOD).order(rank)) for rank in (0, 1)] == [4, 4]


def test_idle_cells_between_messages_stay():
    assert Table.parse_csv("0F0,0SEND_F0,,0RECV_B0,0B0\n1RECV_F0,,1F0,1B0,1SEND_B0").cells.shape == (2, 3)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "0F0,0SEND_F0",
            "0SEND_F0,0F0",
            "row 1, column 1: 0SEND_F0: 0F0, whose result it sends, is in column 2; move it after 0F0.",
        ),
        (
            "1RECV_F0,1F0",
            "1F0,1RECV_F0",
            "row 2, column 2: 1RECV_F0: 1F0, which needs it, is in column 1; move it before 1F0.",
        ),
        (
            "0RECV_B0,0B0",
            "0B0,0RECV_B0",
            "row 1, column 6: 0RECV_B0: 0B0, which needs it, is in column 5; move it before 0B0.",
        ),
        (
            "1B1,1SEND_B1",
            "1SEND_B1,1B1",
            "row 2, column 7: 1SEND_B1: 1B1, whose result it sends, is in column 8; move it after 1B1.",
        ),
        ("1RECV_F1,", "", "row 1, column 4: 0SEND_F1: it has no other end; add 1RECV_F1 to row 2."),
        ("0SEND_F1,", "", "row 2, column 3: 1RECV_F1: it has no other end; add 0SEND_F1 to row 1."),
        (
            "0SEND_F1,",
            "0SEND_F1,0SEND_F1,",
            "row 1, column 5: 0SEND_F1: a second time, after the text, row 1, column 4;",
        ),
        (
            "0SEND_F1,",
            "1SEND_F1,",
            "row 1, column 4: 1SEND_F1: no task of its stage is in this row; move it to the row",
        ),
        ("0SEND_F1,", "0SEND_B1,", "row 1, column 4: 0SEND_B1: there is no stage at its other end; remove it."),
        ("0SEND_F1,", "0SEND_F7,", "row 1, column 4: 0SEND_F7: there is no 0F7; remove it, or add that task."),
        ("0RECV_B1,", "0RECV_B7,", "row 1, column 7: 0RECV_B7: there is no 0B7 or 0I7; remove it, or add that task."),
        ("1F0,1RECV_F1", "5UNSHARD,1F0,1RECV_F1", "row 2, column 2: 5UNSHARD: no task of its stage is in this row;"),
    ],
)
def test_a_wrong_message(old, new, message):
    assert changed(old, new).startswith(message)


def test_a_result_that_is_never_sent():
    text = GOOD.replace("0SEND_F1,", "").replace("1RECV_F1,", "")
    assert error_of(text).startswith(
        "row 1, column 3: 0F1: its result is never sent; add 0SEND_F1 after it, and 1RECV_F1"
    )


def test_messages_of_two_ranks_in_two_orders():
    text = GOOD.replace("1RECV_F0,1F0,1RECV_F1", "1RECV_F1,1RECV_F0,1F0")
    message = "row 2, column 1: 1RECV_F1: the next message from rank 0 is 0SEND_F0; put 1RECV_F0 here"
    assert error_of(text).startswith(message)


def test_a_message_inside_a_rank():
    text = "0F0,0SEND_F0,1RECV_F0,1F0,1B0,0B0"
    message = "row 1, column 2: 0SEND_F0: the stage at its other end is on this rank, too; remove it."
    assert error_of(text) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0F0,0UNSHARD,0B0", "row 1, column 1: 0F0: its stage's parameters are not there; put 0UNSHARD before it."),
        ("0UNSHARD,0UNSHARD,0F0", "row 1, column 2: 0UNSHARD: its stage's parameters are already there; remove it."),
        ("0RESHARD,0F0", "row 1, column 1: 0RESHARD: its stage's parameters are not there; remove it."),
        ("0UNSHARD,0F0,0RESHARD,0B0", "row 1, column 4: 0B0: its stage's parameters are not there; put 0UNSHARD"),
        ("0F0,0REDUCE_GRAD,0B0", "row 1, column 2: 0REDUCE_GRAD: 0B0 comes after it; move it after 0B0."),
        ("0F0,0B0,0REDUCE_GRAD,0REDUCE_GRAD", "row 1, column 4: 0REDUCE_GRAD: a second time, after the text, row 1, "),
    ],
)
def test_parameters_and_gradients_of_a_stage(text, message):
    assert error_of(text).startswith(message)


@given(tables(), st.data())
def test_a_row_without_one_of_its_messages_is_refused(table, data):
    rows = [line.split(",") for line in table.as_csv(communication=True).splitlines()]
    messages = [(r, c) for r, row in enumerate(rows) for c, cell in enumerate(row) if "SEND" in cell or "RECV" in cell]
    if messages:
        rank, column = data.draw(st.sampled_from(messages))
        del rows[rank][column]
        assert "it has no other end" in error_of("\n".join(map(",".join, rows)))
