import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from funpipe._errors import ScheduleError
from funpipe.schedules import OneFOneB, check, simulate
from tests.schedules.test_block import maps

SIZES = [(p, m) for p in (1, 2, 4, 8) for m in sorted({1, p, 2 * p, 4 * p})]
FEW = [(2, 1), (4, 1), (4, 2), (4, 3), (8, 5)]
times = st.floats(0.01, 100)

# Forwards fill the pipeline; then one forward and one backward in turns.
PICTURE = """\
stage -> rank: 0 1 2 3; microbatches: 6
rank 0 | 0F0 0F1 0F2 0F3 .   .   .   0B0 0F4 0B1 0F5 0B2 .   0B3 .   0B4 .   0B5
rank 1 | .   1F0 1F1 1F2 .   .   1B0 1F3 1B1 1F4 1B2 1F5 1B3 .   1B4 .   1B5 .
rank 2 | .   .   2F0 2F1 .   2B0 2F2 2B1 2F3 2B2 2F4 2B3 2F5 2B4 .   2B5 .   .
rank 3 | .   .   .   3F0 3B0 3F1 3B1 3F2 3B2 3F3 3B3 3F4 3B4 3F5 3B5 .   .   .
"""

# With fewer microbatches than ranks, the first ranks' forwards are all warm-up.
FEW_PICTURE = """\
stage -> rank: 0 1 2 3; microbatches: 2
rank 0 | 0F0 0F1 .   .   .   .   .   0B0 .   0B1
rank 1 | .   1F0 1F1 .   .   .   1B0 .   1B1 .
rank 2 | .   .   2F0 2F1 .   2B0 .   2B1 .   .
rank 3 | .   .   .   3F0 3B0 3F1 3B1 .   .   .
"""


def test_picture():
    assert OneFOneB().table(num_ranks=4, num_microbatches=6).as_text().startswith(PICTURE)


def test_picture_with_fewer_microbatches_than_ranks():
    assert OneFOneB().table(num_ranks=4, num_microbatches=2).as_text().startswith(FEW_PICTURE)


@pytest.mark.parametrize(("p", "m"), SIZES + FEW)
def test_bubble_and_peak_are_the_papers(p, m):
    sim = simulate(OneFOneB().table(p, m), F=1.0, I=1.0, W=1.0)
    assert sim.bubble == (p - 1) * (1 + 2)
    assert sim.makespan == (p - 1 + m) * (1 + 2)
    assert sim.peak_activations == tuple(min(m, p - r) for r in range(p))


@given(st.integers(1, 6), st.integers(1, 9), times, times)
def test_bubble_for_any_times(p, m, F, B):
    assert simulate(OneFOneB().table(p, m), F=F, B=B).bubble == pytest.approx((p - 1) * (F + B), abs=1e-9)


@pytest.mark.parametrize(("p", "m"), SIZES + FEW)
def test_tables_can_run_and_ascend(p, m):
    table = OneFOneB().table(p, m)
    check(table)
    assert table.ascends("F")
    assert table.ascends("B")


@pytest.mark.parametrize(("p", "m"), SIZES + FEW)
def test_each_rank_runs_the_textbook_order(p, m):
    table = OneFOneB().table(p, m)
    for r in range(p):
        warm_up = min(p - 1 - r, m)
        steady = [f"{r}{kind}{i}" for k in range(m - warm_up) for kind, i in (("F", warm_up + k), ("B", k))]
        first = [f"{r}F{i}" for i in range(warm_up)]
        last = [f"{r}B{i}" for i in range(m - warm_up, m)]
        assert [str(task) for task in table.order(r)] == first + steady + last


@pytest.mark.parametrize(("p", "m"), SIZES + FEW)
def test_no_task_is_drawn_before_what_it_needs(p, m):
    table = OneFOneB().table(p, m)
    earliest = simulate(table, F=1, B=1).start
    ranks, slots = np.nonzero(table.cells >= 0)
    assert (earliest[ranks, slots] <= slots).all()


def test_one_stage_per_rank():
    assert OneFOneB().placement(3) == (0, 1, 2)
    assert OneFOneB().num_stages(3) == 3


@pytest.mark.parametrize(("p", "m", "name"), [(0, 4, "num_ranks"), (4, 0, "num_microbatches")])
def test_too_few(p, m, name):
    with pytest.raises(ScheduleError, match=rf"OneFOneB\(\): {name}=0 is below 1; the nearest valid is {name}=1\."):
        OneFOneB().table(p, m)


def test_a_v_of_stages():
    """The first and the last stage on rank 0: the turns of a rank are four slots."""
    rows = OneFOneB(stage_to_rank=(0, 1, 1, 0)).table(2, 3).as_text().splitlines()[1:-1]
    assert rows == [
        "rank 0 | 0F0 .   .   3F0 0F1 3B0 .   3F1 0F2 3B1 0B0 3F2 3B2 0B1 .   0B2",
        "rank 1 | .   1F0 2F0 .   .   1F1 2F1 2B0 1B0 1F2 2F2 2B1 1B1 2B2 1B2 .",
    ]


@given(maps, st.integers(1, 5))
def test_any_map_can_run_and_the_fullest_rank_does_not_wait_in_its_turns(stage_to_rank, m):
    schedule, p = OneFOneB(stage_to_rank=tuple(stage_to_rank)), max(stage_to_rank) + 1
    tables = [schedule.table(p, m + more) for more in (8, 9)]
    check(tables[0])
    assert tables[1].num_slots - tables[0].num_slots == 2 * max(np.bincount(stage_to_rank))


def test_uneven_stages_hold_few_activations():
    assert simulate(OneFOneB(stage_to_rank=(0, 0, 0, 1, 2)).table(3, 32)).peak_activations == (6, 1, 1)
