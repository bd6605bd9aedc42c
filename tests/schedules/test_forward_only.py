import pytest
from hypothesis import given
from hypothesis import strategies as st

from funpipe._errors import ScheduleError
from funpipe.schedules import ForwardOnly, GPipe, forward_only, simulate, squeeze
from tests.schedules.family import SIZES, picture, run

times = st.floats(0.01, 100)

PICTURE = """\
rank 0 | 0F0 0F1 0F2 0F3 3F0 3F1 3F2 3F3 .   .
rank 1 | .   1F0 1F1 1F2 1F3 4F0 4F1 4F2 4F3 .
rank 2 | .   .   2F0 2F1 2F2 2F3 5F0 5F1 5F2 5F3
"""


def test_picture():
    assert picture(ForwardOnly(2), 3, 4) == PICTURE


@pytest.mark.parametrize("v", [1, 2, 3])
@pytest.mark.parametrize(("p", "m"), SIZES)
def test_bubble_is_the_time_to_the_last_rank(p, m, v):
    assert run(ForwardOnly(v), p, m).bubble == pytest.approx((p - 1) / v)


@given(st.integers(1, 5), st.integers(0, 9), st.integers(1, 4), times)
def test_bubble_for_any_time(p, more, v, F):
    sim = simulate(ForwardOnly(v).table(p, p + more), F=F)
    assert sim.bubble == pytest.approx((p - 1) * F, abs=1e-9)


def test_it_has_the_forwards_of_a_training_schedule():
    assert ForwardOnly().table(3, 5) == squeeze(forward_only(GPipe().table(3, 5)))


def test_too_few():
    with pytest.raises(ScheduleError, match=r"num_microbatches=0 is below 1"):
        ForwardOnly().table(2, 0)
