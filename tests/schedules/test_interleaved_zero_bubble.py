import pytest
from hypothesis import given
from hypothesis import strategies as st

from funpipe._errors import ScheduleError
from funpipe.schedules import InterleavedZeroBubble, ZeroBubbleH1, simulate
from tests.schedules.family import SIZES, peaks, picture, run

times = st.floats(0.01, 100)

PICTURE = """\
rank 0 | 0F0 0F1 2F0 2F1 .   2I0 2W0 0F2 2I1 2W1 0F3 0I0 0W0 2F2 0I1 0W1 2F3 2I2 2W2 2I3 2W3 0I2 0W2 0I3 0W3
rank 1 | .   1F0 1F1 3F0 3I0 3F1 3I1 3W0 1F2 1I0 3W1 1F3 1I1 1W0 3F2 3I2 1W1 3F3 3I3 3W2 1I2 3W3 1I3 1W2 1W3
"""


def test_picture():
    assert picture(InterleavedZeroBubble(), 2, 4) == PICTURE


@pytest.mark.parametrize("v", [1, 2, 3])
@pytest.mark.parametrize(("p", "m"), SIZES)
def test_bubble_and_peak(p, m, v):
    assert run(InterleavedZeroBubble(v), p, m).bubble == pytest.approx((p - 1) / v)
    assert peaks(InterleavedZeroBubble(v), p, m) == [p] * p


@pytest.mark.parametrize(("p", "m", "g"), [(2, 3, 3), (3, 8, 4), (4, 10, 5), (4, 7, 7), (3, 2, 2)])
def test_peak_in_rounds_of_g(p, m, g):
    sim = simulate(InterleavedZeroBubble(3).table(p, m))
    assert sim.peak_activations == (min(3 * m, 2 * g + p),) * p
    assert (sim.bubble == p - 1) == (m >= p)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), times, times, times)
def test_bubble_for_any_times(p, rounds, v, F, I, W):
    sim = simulate(InterleavedZeroBubble(v).table(p, rounds * p), F=F, I=I, W=W)
    assert sim.bubble == pytest.approx((p - 1) * (F + I - min(F, I, W)), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("p", "m"), SIZES)
def test_one_stage_per_rank_is_zb_h1(p, m):
    assert InterleavedZeroBubble(1).table(p, m) == ZeroBubbleH1().table(p, m)


def test_rounds_are_of_equal_size():
    with pytest.raises(ScheduleError, match=r"valid are num_microbatches=8 and num_microbatches=10\."):
        InterleavedZeroBubble().table(4, 9)
