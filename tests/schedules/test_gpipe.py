import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from funpipe._errors import ScheduleError
from funpipe.schedules import GPipe, check, simulate
from tests.schedules.test_block import maps

SIZES = [(p, m) for p in (1, 2, 4, 8) for m in sorted({1, p, 2 * p, 4 * p})]
times = st.floats(0.01, 100)

# All forwards, then all backwards, both in the order of the microbatches.
PICTURE = """\
stage -> rank: 0 1 2 3; microbatches: 4
rank 0 | 0F0 0F1 0F2 0F3 .   .   .   .   .   .   0B0 0B1 0B2 0B3
rank 1 | .   1F0 1F1 1F2 1F3 .   .   .   .   1B0 1B1 1B2 1B3 .
rank 2 | .   .   2F0 2F1 2F2 2F3 .   .   2B0 2B1 2B2 2B3 .   .
rank 3 | .   .   .   3F0 3F1 3F2 3F3 3B0 3B1 3B2 3B3 .   .   .
"""


def test_picture():
    assert GPipe().table(num_ranks=4, num_microbatches=4).as_text().startswith(PICTURE)


@pytest.mark.parametrize(("p", "m"), SIZES)
def test_bubble_and_peak_are_the_papers(p, m):
    sim = simulate(GPipe().table(p, m), F=1.0, I=1.0, W=1.0)
    assert sim.bubble == (p - 1) * (1 + 2)
    assert sim.makespan == (p - 1 + m) * (1 + 2)
    assert sim.peak_activations == (m,) * p


@given(st.integers(1, 6), st.integers(1, 9), times, times)
def test_bubble_for_any_times(p, m, F, B):
    assert simulate(GPipe().table(p, m), F=F, B=B).bubble == pytest.approx((p - 1) * (F + B), abs=1e-9)


@pytest.mark.parametrize(("p", "m"), SIZES)
def test_tables_can_run_and_ascend(p, m):
    table = GPipe().table(p, m)
    check(table)
    assert table.ascends("F")
    assert table.ascends("B")


@pytest.mark.parametrize(("p", "m"), SIZES)
def test_the_grid_is_the_simulation_with_tasks_of_one_slot(p, m):
    table = GPipe().table(p, m)
    start = simulate(table, F=1, B=1).start
    ranks, slots = np.nonzero(table.cells >= 0)
    assert (start[ranks, slots] == slots).all()


def test_one_stage_per_rank():
    assert GPipe().placement(3) == (0, 1, 2)
    assert GPipe().num_stages(3) == 3


@pytest.mark.parametrize("call", [lambda: GPipe().table(0, 4), lambda: GPipe().placement(0)])
def test_too_few_ranks(call):
    with pytest.raises(ScheduleError, match=r"GPipe\(\): num_ranks=0 is below 1; the nearest valid is num_ranks=1\."):
        call()


@pytest.mark.parametrize("m", [0, -3])
def test_too_few_microbatches(m):
    with pytest.raises(ScheduleError, match=rf"num_microbatches={m} is below 1; the nearest valid .*=1\."):
        GPipe().table(2, m)


@pytest.mark.parametrize(("m", "nearest"), [(2.6, 3), (0.2, 1), ("4", 1), (float("nan"), 1)])
def test_numbers_are_integers(m, nearest):
    with pytest.raises(ScheduleError, match=rf"is not an integer; use num_microbatches={nearest}\."):
        GPipe().table(2, m)


def test_any_map_of_stages_to_ranks():
    """Two stages on rank 0, one of them the last: rank 0 takes all microbatches through one, then through the other."""
    rows = GPipe(stage_to_rank=(0, 1, 0)).table(2, 2).as_text().splitlines()[1:-1]
    assert rows == ["rank 0 | 0F0 0F1 2F0 2F1 2B0 2B1 0B0 0B1", "rank 1 | .   1F0 1F1 .   .   1B0 1B1 ."]


@given(maps, st.integers(1, 5))
def test_any_map_can_run(stage_to_rank, m):
    table = GPipe(stage_to_rank=tuple(stage_to_rank)).table(max(stage_to_rank) + 1, m)
    check(table)
    assert simulate(table).peak_activations == tuple(np.bincount(stage_to_rank) * m)
