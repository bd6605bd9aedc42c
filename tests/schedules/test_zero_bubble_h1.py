import pytest
from hypothesis import given
from hypothesis import strategies as st

from funpipe._errors import ScheduleError
from funpipe.schedules import ZeroBubbleH1, simulate
from tests.schedules.family import SIZES, peaks, picture, run

times = st.floats(0.01, 100)

PICTURE = """\
rank 0 | 0F0 0F1 0F2 .   .   0I0 0W0 0F3 0I1 0W1 0F4 0I2 0W2 0I3 0W3 0I4 0W4
rank 1 | .   1F0 1F1 .   1I0 1F2 1I1 1W0 1F3 1I2 1W1 1F4 1I3 1W2 1I4 1W3 1W4
rank 2 | .   .   2F0 2I0 2F1 2I1 2F2 2I2 2W0 2F3 2I3 2W1 2F4 2I4 2W2 2W3 2W4
"""


def test_picture():
    assert picture(ZeroBubbleH1(), 3, 5) == PICTURE


@pytest.mark.parametrize(("p", "m"), SIZES)
def test_bubble_and_peak_are_the_papers(p, m):
    assert run(ZeroBubbleH1(), p, m).bubble == p - 1
    assert peaks(ZeroBubbleH1(), p, m) == [p] * p


@given(st.integers(1, 6), st.integers(0, 9), times, times, times)
def test_bubble_for_any_times(p, more, F, I, W):
    """The paper's (p - 1)(F + I - W) as long as W is the shortest; a longer W has to wait for F or I."""
    sim = simulate(ZeroBubbleH1().table(p, p + more), F=F, I=I, W=W)
    assert sim.bubble == pytest.approx((p - 1) * (F + I - min(F, I, W)), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("p", "m"), [(4, 1), (4, 3), (8, 5)])
def test_few_microbatches(p, m):
    assert peaks(ZeroBubbleH1(), p, m) == [m] * p


def test_too_few():
    with pytest.raises(ScheduleError, match=r"num_ranks=0 is below 1"):
        ZeroBubbleH1().table(0, 2)
