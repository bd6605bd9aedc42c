import numpy as np
import pytest

from funpipe._errors import ScheduleError
from funpipe.schedules import ZeroBubbleH2
from tests.schedules.family import SIZES, peaks, picture, run, sizes

PICTURE = """\
rank 0 | 0F0 0F1 0F2 0F3 0F4 0I0 0W0 0F5 0I1 0W1 0I2 0W2 0I3 0W3 0I4 0W4 0I5 0W5 .   .
rank 1 | .   1F0 1F1 1F2 1I0 1F3 1I1 1F4 1I2 1W0 1F5 1I3 1W1 1I4 1W2 1I5 1W3 1W4 1W5 .
rank 2 | .   .   2F0 2I0 2F1 2I1 2F2 2I2 2F3 2I3 2F4 2I4 2W0 2F5 2I5 2W1 2W2 2W3 2W4 2W5
"""


def test_picture():
    assert picture(ZeroBubbleH2(), 3, 6) == PICTURE


@pytest.mark.parametrize(("p", "m"), sizes(lambda p: 2 * p - 1))
def test_bubble_and_peak_are_the_papers(p, m):
    sim = run(ZeroBubbleH2(), p, m)
    assert sim.bubble == p - 1
    assert peaks(ZeroBubbleH2(), p, m) == [2 * p - 1] * p


@pytest.mark.parametrize(("p", "m"), sizes(lambda p: 2 * p - 1))
def test_no_rank_waits_in_its_own_window(p, m):
    sim = run(ZeroBubbleH2(), p, m)
    assert (np.nanmin(sim.start, axis=1) == np.arange(p)).all()
    assert (np.nanmax(sim.end, axis=1) == np.arange(p) + 3 * m).all()


@pytest.mark.parametrize(("p", "m"), [(p, m) for p, m in SIZES if m < 2 * p - 1])
def test_too_few_microbatches(p, m):
    least = 2 * p - 1
    with pytest.raises(ScheduleError, match=rf"num_microbatches={m} is below {least}; the nearest valid .*={least}\."):
        ZeroBubbleH2().table(p, m)
