import pytest
from hypothesis import given

from funpipe._errors import ScheduleError
from funpipe.schedules import GPipe, OneFOneB, Table, Task, check, forward_only, merge, simulate
from tests.schedules.plain import paired_tables
from tests.schedules.tables import tables


@given(tables())
def test_one_rank_runs_every_task_once_and_keeps_the_order_of_each(table):
    merged = merge(table)
    check(merged)
    assert merged.placement == (0,) * table.num_stages
    for rank in range(table.num_ranks):
        mine = [task for task in merged.order(0) if table.placement[task.stage] == rank]
        assert tuple(mine) == table.order(rank)


@given(tables())
def test_ascending_microbatches_still_ascend(table):
    assert [merge(table).ascends(kind) for kind in "FBIW"] == [table.ascends(kind) for kind in "FBIW"]


@given(tables())
def test_merging_one_rank_drops_its_idle_cells_and_no_more(table):
    merged = merge(table)
    assert merge(merged) == merged


def test_one_f_one_b_on_one_rank():
    #  rank 0 | 0F0 0F1 .   0B0 0F2 0B1 .   0B2
    #  rank 1 | .   1F0 1B0 1F1 1B1 1F2 1B2 .
    assert (
        " ".join(map(str, merge(OneFOneB().table(2, 3)).order(0))) == "0F0 0F1 1F0 1B0 0B0 1F1 0F2 1B1 0B1 1F2 1B2 0B2"
    )


def test_merging_holds_no_more_activations_than_the_ranks_together():
    table = OneFOneB().table(4, 12)
    assert simulate(merge(table)).peak_activations[0] <= sum(simulate(table).peak_activations)


def test_ranks_that_wait_for_each_other_cannot_be_merged():
    rows = [[Task.parse(t) for t in row.split()] for row in ("0F0 0B0 0F1 0B1", "1F1 1F0 1B0 1B1")]
    with pytest.raises(ScheduleError, match=r"wait for each other after 1 of its 8 tasks.*check\(table\) shows where"):
        merge(Table.from_rows(rows, placement=(0, 1), num_microbatches=2))


@given(tables())
def test_forward_only_keeps_the_forwards_in_their_order(table):
    forwards = forward_only(table)
    for rank in range(table.num_ranks):
        assert forwards.order(rank) == tuple(t for t in table.order(rank) if t.kind == "F")
    assert forwards.placement == table.placement


def test_an_evaluation_can_be_merged():
    merged = merge(forward_only(GPipe().table(2, 2)))
    assert " ".join(map(str, merged.order(0))) == "0F0 0F1 1F0 1F1"


@given(paired_tables())
def test_what_runs_together_stays_together(table):
    merged = merge(table)
    check(merged)
    for rank in range(table.num_ranks):
        mine = [cell for cell in merged.order(0) if table.placement[getattr(cell, "first", cell).stage] == rank]
        assert tuple(mine) == table.order(rank)


@given(paired_tables())
def test_forward_only_takes_the_forwards_out_of_overlaps(table):
    forwards = forward_only(table)
    check(forwards)
    assert sorted(t for rank in range(table.num_ranks) for t in forwards.order(rank)) == [
        Task("F", s, i) for s in range(table.num_stages) for i in range(table.num_microbatches)
    ]
