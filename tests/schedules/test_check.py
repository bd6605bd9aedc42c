import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funpipe._errors import FunpipeTypeError, ScheduleError
from funpipe.schedules import DualPipeV, GPipe, OneFOneB, Table, Task, check, simulate
from tests.schedules.plain import paired_tables
from tests.schedules.tables import is_complete, runs_to_the_end, tables


def table_of(*rows, placement=None, m=1):
    tasks = [[None if cell == "." else Task.parse(cell) for cell in row.split()] for row in rows]
    return Table.from_rows(tasks, placement=placement or range(len(rows)), num_microbatches=m)


def test_memory_is_for_the_cells_there_are():
    """A short text may name many microbatches; that they are missing is found without an array over all of them."""
    table = Table.parse("stage -> rank: 0; microbatches: 200000000\nrank 0 | 0F0 0B0")
    tracemalloc.start()
    with pytest.raises(ScheduleError, match="rank 0 never runs 0F1"):
        check(table)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_a_schedule_is_no_table():
    for call in (check, simulate):
        with pytest.raises(FunpipeTypeError, match="table is a GPipe; pass a Table, such as"):
            call(GPipe())  # pyright: ignore[reportArgumentType]


def error_of(table):
    with pytest.raises(ScheduleError) as error:
        check(table)
    return str(error.value).splitlines()


@given(tables())
def test_tables_that_can_run_pass(table):
    check(table)


def test_a_missing_forward():
    assert error_of(table_of("0F0 0B0 0B1", m=2)) == [
        "rank 0 never runs 0F1, of stage 0 and microbatch 1.",
        "rank 0 | 0F0 0B0 0B1  <-- 0F1 is missing",
        "Add 0F1 to the row of rank 0.",
    ]


def test_a_missing_backward():
    assert error_of(table_of("0F0 . . 0B0", ". 1F0")) == [
        "rank 1 never runs 1B0 (or 1I0 and 1W0), of stage 1 and microbatch 0.",
        "rank 0 | 0F0 .   . 0B0",
        "rank 1 | .   1F0 . .    <-- 1B0 (or 1I0 and 1W0) is missing",
        "Add 1B0 (or 1I0 and 1W0) to the row of rank 1.",
    ]


def test_a_missing_weight_gradient():
    assert error_of(table_of("0F0 0I0"))[0] == "rank 0 never runs 0W0, of stage 0 and microbatch 0."


def test_the_last_task_missing():
    assert error_of(table_of("0F0 0F1 0F2 0B0 0B1", m=3))[0].startswith("rank 0 never runs 0B2 ")


def test_a_task_twice():
    assert error_of(table_of("0F0 0F0 0B0")) == [
        "0F0 on rank 0, slot 1: the forward of stage 0, microbatch 0 was already computed by 0F0 on rank 0, slot 0.",
        "rank 0 | 0F0 [0F0] 0B0  <-- a second time",
        "Remove one of the two.",
    ]


@pytest.mark.parametrize(("row", "duty"), [("0F0 0B0 0I0 0W0", "inputs"), ("0F0 0W0 0B0", "weights")])
def test_a_whole_backward_beside_a_split_one(row, duty):
    what = error_of(table_of(row))[0]
    assert f"the gradient of the {duty} of stage 0, microbatch 0 was already computed by" in what


def test_a_task_on_another_rank():
    assert error_of(table_of("0F0 1F0 0B0", ". . 1B0")) == [
        "1F0 on rank 0, slot 1: stage 1 is placed on rank 1.",
        "rank 0 | 0F0 [1F0] 0B0  <-- stage 1 is on rank 1",
        "rank 1 | .   .     1B0",
        "Move 1F0 to the row of rank 1, or change the placement.",
    ]


def test_a_rank_without_a_stage():
    assert error_of(table_of("0F0 0B0", ".", placement=(0,))) == [
        "rank 1 holds no stage: 1 stages are on 1 ranks.",
        "rank 0 | 0F0 0B0",
        "rank 1 | .   .    <-- holds no stage",
        "Place a stage on rank 1, or use 1 ranks.",
    ]


def test_a_backward_before_its_forward():
    assert error_of(table_of("0F0 0B1 0F1 0B0", m=2)) == [
        "0B1 on rank 0, slot 1 comes before 0F1, which it needs.",
        "rank 0 | 0F0 [0B1] 0F1 0B0  <-- needs 0F1",
        "Move 0F1 before 0B1 in the row of rank 0.",
    ]


def test_weights_before_inputs():
    assert error_of(table_of("0F0 0W0 0I0"))[0] == "0W0 on rank 0, slot 1 comes before 0I0, which it needs."


def test_a_deadlock_of_two_ranks():
    assert error_of(table_of("0F0 0B0 0F1 0B1", "1F1 1F0 1B0 1B1", m=2)) == [
        "deadlock: rank 0 waits at slot 1, 0B0, for 1B0; rank 1 waits at slot 0, 1F1, for 0F1.",
        "rank 0 | 0F0   [0B0] 0F1 0B1  <-- waits for 1B0",
        "rank 1 | [1F1] 1F0   1B0 1B1  <-- waits for 0F1",
        "Move 1B0 before 1F1 in the row of rank 1.",
    ]


def test_a_deadlock_inside_one_rank():
    lines = error_of(table_of("1F0 0F0 1B0 0B0", placement=(0, 0)))
    assert lines[0] == "deadlock: rank 0 waits at slot 0, 1F0, for 0F0."
    assert lines[-1] == "Move 0F0 before 1F0 in the row of rank 0."


def test_a_large_grid_is_shown_around_the_fault():
    good = GPipe().table(64, 256)
    rows = [list(row) for row in good.rows]
    slot = rows[40].index(Task("B", 40, 7))
    rows[40][slot] = None
    rows[40][0] = Task("B", 40, 7)
    lines = error_of(Table.from_rows(rows, placement=good.placement, num_microbatches=256))
    assert lines[0] == "40B7 on rank 40, slot 0 comes before 40F7, which it needs."
    assert "rank 40 | [40B7] ." in lines[9]
    assert lines[-2] == "(slots 0 to 12 of 638, 64 ranks)"
    assert len("\n".join(lines)) < 3000


def test_a_long_deadlock_is_cut_short():
    p = 20
    rows = [f"{r}F1 {r}F0 {r}B0 {r}B1" if r else "0F0 0B0 0F1 0B1" for r in range(p)]
    lines = error_of(table_of(*rows, m=2))
    assert lines[0].startswith("deadlock: rank 0 waits")
    assert len("\n".join(lines)) < 3000


@given(st.data())
def test_a_mutated_table_is_judged_as_the_rules_say(data):
    good = data.draw(st.one_of(tables(), st.sampled_from([GPipe().table(2, 3), OneFOneB().table(3, 4)])))
    rows = [list(row) for row in good.rows]
    cells = [(rank, slot) for rank, row in enumerate(rows) for slot, task in enumerate(row) if task is not None]
    (r, t), (q, u) = data.draw(st.sampled_from(cells)), data.draw(st.sampled_from(cells))
    match data.draw(st.sampled_from(["swap", "drop", "duplicate", "move"])):
        case "swap":
            rows[r][t], rows[q][u] = rows[q][u], rows[r][t]
        case "drop":
            del rows[r][t]
        case "duplicate":
            rows[q].insert(u, rows[r][t])
        case "move":
            rows[r].insert(u, rows[r].pop(t))
    bad = Table.from_rows(rows, placement=good.placement, num_microbatches=good.num_microbatches)
    if is_complete(rows, good.placement, good.num_microbatches) and runs_to_the_end(rows, good.num_stages):
        assert simulate(bad).makespan > 0
    else:
        assert "<--" in "\n".join(error_of(bad))


@given(paired_tables())
def test_tables_with_overlaps_that_can_run_pass(table):
    check(table)


@given(st.data())
def test_a_swap_in_a_table_with_overlaps_is_judged_as_the_rules_say(data):
    good = data.draw(st.one_of(paired_tables(), st.just(DualPipeV().table(2, 4))))
    rows = [list(good.order(rank)) for rank in range(good.num_ranks)]
    row = data.draw(st.sampled_from([row for row in rows if row]))
    a, b = (data.draw(st.integers(0, len(row) - 1)) for _ in "ab")
    row[a], row[b] = row[b], row[a]
    bad = Table.from_rows(rows, placement=good.placement, num_microbatches=good.num_microbatches)
    if runs_to_the_end(rows, good.num_stages):
        check(bad)
    else:
        assert "<--" in "\n".join(error_of(bad))


def pairs_of(*rows, placement, m):
    text = f"stage -> rank: {' '.join(map(str, placement))}; microbatches: {m}"
    return Table.parse("\n".join([text, *(f"rank {rank} | {row}" for rank, row in enumerate(rows))]))


def test_an_overlap_waits_for_both_of_its_parts():
    table = pairs_of("0F0 0F1&0B0 0B1", "1F1 1F0 1B0 1B1", placement=(0, 1), m=2)
    assert error_of(table) == [
        "deadlock: rank 0 waits at slot 1, 0F1&0B0, for 1B0; rank 1 waits at slot 0, 1F1, for 0F1.",
        "rank 0 | 0F0   [0F1&0B0] 0B1  <-- waits for 1B0",
        "rank 1 | [1F1] 1F0 1B0   1B1  <-- waits for 0F1",
        "Move 1B0 before 1F1 in the row of rank 1.",
    ]


def test_an_overlap_may_wait_for_its_first_part():
    table = pairs_of("0F0 0F1 0B0 0B1", "1F0 1F1&1B0 1B1", placement=(0, 1), m=2)
    check(table)
    late = pairs_of("0F0 0B0 0F1 0B1", "1F0 1F1&1B0 1B1", placement=(0, 1), m=2)
    assert (
        error_of(late)[0] == "deadlock: rank 0 waits at slot 1, 0B0, for 1B0; rank 1 waits at slot 1, 1F1&1B0, for 0F1."
    )


def test_the_second_part_of_an_overlap_is_marked_with_the_first():
    table = pairs_of("0F0 0F1&0W0 0I0 0B1", placement=(0,), m=2)
    assert error_of(table) == [
        "0W0 on rank 0, slot 2 comes before 0I0, which it needs.",
        "rank 0 | 0F0 [0F1&0W0] 0I0 0B1  <-- needs 0I0",
        "Move 0I0 before 0W0 in the row of rank 0.",
    ]


def test_a_grid_that_begins_inside_an_overlap_shows_both_parts():
    pairs = " ".join(f"0F{i + 1}&0B{i}" for i in range(20))
    table = pairs_of(f"0F0 {pairs} 0B20 0B20", placement=(0,), m=21)
    grid = error_of(table)[1]
    assert grid.startswith("rank 0 | 0F15&0B14 0F16&0B15 ")
    assert grid.endswith("[0B20]  <-- a second time")


def test_a_table_of_forwards_alone_is_an_inference():
    check(table_of("0F0 0F1", ". 1F0 1F1", m=2))
    assert error_of(table_of("0F0 0F1", ". 1F0", m=2))[0] == "rank 1 never runs 1F1, of stage 1 and microbatch 1."
