import copy

import pytest
from hypothesis import given

import funpipe as fp
from funpipe.interop.pipelining.schedules import order_of, table_of
from tests.interop.pipelining.schedules.made import MULTI, NAMES, made, rows
from tests.schedules.tables import tables


def ranks_of(table):
    return dict(enumerate(table.placement))


@given(tables())
def test_a_table_goes_to_rows_and_back(table):
    found = table_of(order_of(table), ranks_of(table))
    assert [found.order(r) for r in range(found.num_ranks)] == [table.order(r) for r in range(table.num_ranks)]
    assert (found.placement, found.num_microbatches) == (table.placement, table.num_microbatches)


@pytest.mark.parametrize("name", NAMES)
def test_the_rows_of_a_schedule_are_a_table(name):
    schedule = made(name, 2, 4)
    table = table_of(schedule.pipeline_order, schedule._stage_to_rank())
    fp.schedules.check(table)
    assert (table.num_ranks, table.num_microbatches) == (2, 4)


@pytest.mark.parametrize("defer_pp_recv", [False, True])
@pytest.mark.parametrize("name", MULTI)
def test_communication_is_left_out(name, defer_pp_recv):
    schedule = made(name, 2, 4, defer_pp_recv=defer_pp_recv)
    with_, without = (
        table_of(found, schedule.stage_index_to_group_rank)
        for found in (schedule.pipeline_order_with_comms, schedule.pipeline_order)
    )
    assert [with_.order(r) for r in range(2)] == [without.order(r) for r in range(2)]


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["0F0 0RECV_B0 0B0", "1RECV_F0 1F0 1B0 1SEND_B0"], "row 2, column 1: 1RECV_F0: it has no other end"),
        (["0F0 0SEND_F0 0B0", "1RECV_F0 1F0 1B0 1SEND_B0"], "1SEND_B0: it has no other end"),
        (["0F0 0SEND_F0 0RECV_B0 0B0", "1F0 1RECV_F0 1B0 1SEND_B0"], "1RECV_F0: 1F0, which needs it, is in column 1"),
        (["0F0 0B0 0REDUCE_GRAD", "1F0 1REDUCE_GRAD 1B0"], "1REDUCE_GRAD: 1B0 comes after it"),
        (["0F0 0B0", "1RESHARD 1F0 1B0"], "1RESHARD: its stage's parameters are not there"),
        (["0B0 0F0", "1F0 1B0"], "0B0 on rank 0, slot 0 comes before 0F0"),
        (["0F0 0B0", "1F0"], "rank 1 never runs"),
        (["0F0 0F0 0B0", "1F0 1B0"], "was already computed"),
        (["0F0 0B0 1F0", "1B0"], "1F0: stage 1 is placed on rank 1"),
        (["0F0 0F1 0B1 0B0", "1F1 1B1 1F0 1B0"], None),
        (["0F0 0B0 0F1 0B1", "1F0 1F1 1B0 1B1"], "deadlock"),
        (["0F0 0B0", "1F0 1B0 1F"], "nothing that a schedule knows"),
    ],
)
def test_rows_that_contradict_themselves_are_refused(lines, text):
    if text is None:
        table_of(rows(*lines), {0: 0, 1: 1})
        return
    with pytest.raises(AssertionError) as raised:
        table_of(rows(*lines), {0: 0, 1: 1})
    assert text in str(raised.value) and isinstance(raised.value, fp.FunpipeError)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("0F0 (0F1;0B0)OVERLAP_F_B 0B1", "0F0 0F1&0B0 0B1"),
        ("0F0 (0B0;0F1)OVERLAP_F_B 0B1", "0F0 0B0 0F1 0B1"),
        ("(0F0;0B0)OVERLAP_F_B 0F1 0B1", "0F0 0B0 0F1 0B1"),
        ("(0F0;0F1)OVERLAP_F_B 0B0 0B1", "0F0 0F1 0B0 0B1"),
        ("(0F0)OVERLAP_F_B (0F1;0I0;0W0)OVERLAP_F_B 0B1", "0F0 0F1 0I0 0W0 0B1"),
    ],
)
def test_what_cannot_run_at_once_runs_in_order(line, text):
    """As torch runs every overlap."""
    assert " ".join(map(str, table_of(rows(line), {0: 0}).order(0))) == text


def test_ranks_and_stages_are_numbered_from_0():
    with pytest.raises(AssertionError, match="missing rank 0"):
        table_of({1: rows("0F0")[0]}, {0: 0})
    with pytest.raises(AssertionError, match="missing stage 0"):
        table_of(rows("0F0"), {})


def test_rows_are_left_as_they_are():
    found = rows("0F0 0B0 0REDUCE_GRAD")
    before = copy.deepcopy(found)
    table_of(found, {0: 0})
    assert found == before
