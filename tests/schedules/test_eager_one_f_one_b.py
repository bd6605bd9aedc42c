import pytest
from hypothesis import given
from hypothesis import strategies as st

from funpipe._errors import ScheduleError
from funpipe.schedules import Eager1F1B, OneFOneB, simulate
from tests.schedules.family import SIZES, peaks, picture, run

times = st.floats(0.01, 100)

PICTURE = """\
rank 0 | 0F0 0F1 0F2 0F3 0F4 0B0 0F5 0B1 .   0B2 .   0B3 .   0B4 .   0B5
rank 1 | .   1F0 1F1 1F2 1B0 1F3 1B1 1F4 1B2 1F5 1B3 .   1B4 .   1B5 .
rank 2 | .   .   2F0 2B0 2F1 2B1 2F2 2B2 2F3 2B3 2F4 2B4 2F5 2B5 .   .
"""


def test_picture():
    assert picture(Eager1F1B(), 3, 6) == PICTURE


@pytest.mark.parametrize(("p", "m"), [*SIZES, (1, 1), (4, 1), (4, 3)])
def test_bubble_and_peak(p, m):
    assert run(Eager1F1B(), p, m).bubble == (p - 1) * (1 + 2)
    assert peaks(Eager1F1B(), p, m) == [min(m, 2 * (p - r) - 1) for r in range(p)]


@given(st.integers(1, 6), st.integers(1, 9), times, times)
def test_bubble_for_any_times(p, m, F, B):
    assert simulate(Eager1F1B().table(p, m), F=F, B=B).bubble == pytest.approx((p - 1) * (F + B), abs=1e-9)


@pytest.mark.parametrize("p", [2, 4, 8])
def test_messages_cost_its_steady_part_nothing(p):
    """Up to a latency of (F + B) / 2 twice the microbatches add no bubble; they do to 1F1B's with any latency."""
    schedules = Eager1F1B(), OneFOneB()
    eager, lazy = ([simulate(s.table(p, m), latency=1.5).bubble for m in (4 * p, 8 * p)] for s in schedules)
    assert eager[0] == eager[1]
    assert lazy[0] < lazy[1]
    beyond = [simulate(Eager1F1B().table(p, m), latency=1.6).bubble for m in (4 * p, 8 * p)]
    assert beyond[0] < beyond[1]


def test_too_few():
    with pytest.raises(ScheduleError, match=r"Eager1F1B\(\): num_microbatches=0 is below 1; the nearest valid"):
        Eager1F1B().table(2, 0)
