import pytest
from hypothesis import given
from hypothesis import strategies as st

from funpipe._errors import ScheduleError
from funpipe.schedules import DualPipeV, Overlap, simulate
from tests.schedules.family import SIZES, picture, sizes

times = st.floats(0.01, 100)

PICTURE = """\
rank 0 | 0F0 0F1 0F2 3F0 3I0 3W0 3F1 0F3&3B1 3F2&0B0 3B2 .   3F3&0B1 3B3 0I2 0W2 0I3 0W3
rank 1 | .   1F0 2F0 1F1 2F1 1F2 2B0 2F2&1B0 1F3&2B1 2F3&1B1 2B2 1B2 .   2I3 1I3 2W3 1W3
"""


def test_picture():
    assert picture(DualPipeV(), 2, 4) == PICTURE


@pytest.mark.parametrize(("p", "m"), sizes(lambda p: 2 * p))
def test_bubble_and_peak_are_the_papers(p, m):
    """F&B = F + B = 3 and 2p stages: (PP/2 - 1)(F&B + B - 3W) and PP + 1 activations of one stage."""
    sim = simulate(DualPipeV().table(p, m))
    assert sim.bubble == (p - 1) * (3 + 2 - 3)
    assert sim.peak_activations == (2 * p + 1,) * p


@given(st.integers(1, 5), st.integers(0, 6), times, st.floats(0, 1), st.floats(0, 1))
def test_what_the_last_rank_waits_for_any_overlap(p, more, F, weight, saved):
    """The formula for F = I and W no longer than them, with whatever running together saves, up to all of F."""
    W = weight * F
    B = F + W
    FB = F + B - saved * F
    sim = simulate(DualPipeV().table(p, 2 * p + more), F=F, I=F, W=W, FB=FB)
    assert sim.makespan - sim.busy[-1] == pytest.approx((p - 1) * (FB + B - 3 * W), rel=1e-9, abs=1e-9)


def test_forwards_and_backwards_run_together():
    order = DualPipeV().table(2, 6).order(0)
    assert sum(isinstance(task, Overlap) for task in order) == 7


@pytest.mark.parametrize(("p", "m"), [(p, m) for p, m in SIZES if m < 2 * p])
def test_too_few_microbatches(p, m):
    with pytest.raises(ScheduleError, match=rf"num_microbatches={m} is below {2 * p}; the nearest valid .*={2 * p}\."):
        DualPipeV().table(p, m)
