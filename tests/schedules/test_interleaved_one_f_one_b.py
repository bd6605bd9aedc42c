import pytest
from hypothesis import given
from hypothesis import strategies as st

from funpipe._errors import ScheduleError
from funpipe.schedules import Interleaved1F1B, OneFOneB, simulate
from tests.schedules.family import SIZES, peaks, picture, run

times = st.floats(0.01, 100)

PICTURE = """\
rank 0 | 0F0 0F1 2F0 2F1 0F2 2B0 0F3 2B1 2F2 0B0 2F3 0B1 .   2B2 .   2B3 0B2 0B3
rank 1 | .   1F0 1F1 3F0 3B0 3F1 3B1 1F2 1B0 1F3 1B1 3F2 3B2 3F3 3B3 1B2 1B3 .
"""


def test_picture():
    assert picture(Interleaved1F1B(), 2, 4) == PICTURE


@pytest.mark.parametrize("v", [1, 2, 3, 4])
@pytest.mark.parametrize(("p", "m"), SIZES)
def test_bubble_and_peak_are_the_papers(p, m, v):
    schedule = Interleaved1F1B(v)
    assert run(schedule, p, m).bubble == pytest.approx((p - 1) * (1 + 2) / v)
    assert peaks(schedule, p, m) == pytest.approx([min(m, p + (p - 1 - 2 * r) / v) for r in range(p)])


@pytest.mark.parametrize(("p", "m", "g"), [(2, 3, 3), (3, 8, 4), (4, 10, 5), (4, 7, 7), (3, 2, 2)])
def test_peak_in_rounds_of_g(p, m, g):
    sim = simulate(Interleaved1F1B(3).table(p, m))
    assert sim.peak_activations == tuple(min(3 * m, 2 * g + 2 * (p - r) - 1) for r in range(p))
    assert (sim.bubble == (p - 1) * 3) == (m >= p)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), times, times)
def test_bubble_for_any_times(p, rounds, v, F, B):
    sim = simulate(Interleaved1F1B(v).table(p, rounds * p), F=F, B=B)
    assert sim.bubble == pytest.approx((p - 1) * (F + B), abs=1e-9)


@pytest.mark.parametrize(("p", "m"), [(2, 4), (4, 4), (4, 8)])
def test_one_stage_per_rank_is_not_1f1b_but_as_fast(p, m):
    """The ranks begin with one forward more for each rank behind them, as those with several stages do."""
    assert run(Interleaved1F1B(1), p, m).makespan == run(OneFOneB(), p, m).makespan


@pytest.mark.parametrize(("p", "m", "below", "above"), [(4, 9, 8, 10), (3, 7, 6, 8), (4, 13, 12, 15)])
def test_rounds_are_of_equal_size(p, m, below, above):
    message = rf"={m} on {p} ranks .* valid are num_microbatches={below} and num_microbatches={above}\."
    with pytest.raises(ScheduleError, match=message):
        Interleaved1F1B().table(p, m)


def test_stages_per_rank_is_at_least_one():
    with pytest.raises(ScheduleError, match=r"stages_per_rank=0 is below 1; the nearest valid is stages_per_rank=1\."):
        Interleaved1F1B(stages_per_rank=0).placement(2)


def test_stages_go_round_and_round():
    assert Interleaved1F1B(stages_per_rank=3).placement(2) == (0, 1, 0, 1, 0, 1)
