import pytest
from hypothesis import given
from hypothesis import strategies as st

from funpipe._errors import ScheduleError
from funpipe.schedules import LoopedBFS, simulate
from tests.schedules.family import SIZES, peaks, picture, run

times = st.floats(0.01, 100)

PICTURE = """\
rank 0 | 0F0 0F1 0F2 2F0 2F1 2F2 .   .   2B0 2B1 2B2 0B0 0B1 0B2
rank 1 | .   1F0 1F1 1F2 3F0 3F1 3F2 3B0 3B1 3B2 1B0 1B1 1B2 .
"""


def test_picture():
    assert picture(LoopedBFS(), 2, 3) == PICTURE


@pytest.mark.parametrize("v", [1, 2, 3, 4])
@pytest.mark.parametrize(("p", "m"), SIZES)
def test_bubble_and_peak_are_the_papers(p, m, v):
    assert run(LoopedBFS(v), p, m).bubble == pytest.approx((p - 1) * (1 + 2) / v)
    assert peaks(LoopedBFS(v), p, m) == [m] * p


@given(st.integers(1, 5), st.integers(0, 9), st.integers(1, 4), times, times)
def test_bubble_for_any_times(p, more, v, F, B):
    sim = simulate(LoopedBFS(v).table(p, p + more), F=F, B=B)
    assert sim.bubble == pytest.approx((p - 1) * (F + B), abs=1e-9)


@pytest.mark.parametrize(("p", "m", "v"), [(4, 1, 2), (4, 3, 3), (8, 5, 2)])
def test_few_microbatches_wait_to_come_round_again(p, m, v):
    """Each stage of a rank but the first begins when microbatch 0 is back, p stages later."""
    bubble = (p - 1 + (v - 1) * (p - m)) * (1 + 2)
    assert simulate(LoopedBFS(v).table(p, m)).bubble == bubble


def test_too_few():
    with pytest.raises(ScheduleError, match=r"stages_per_rank=0 is below 1"):
        LoopedBFS(0).table(2, 2)
