import numpy as np
import pytest

from funpipe._errors import ScheduleError
from funpipe.schedules import ZBV, simulate
from tests.schedules.family import SIZES, peaks, picture, run, sizes

PICTURE = """\
rank 0 | 0F0 0F1 0F2 3F0 3I0 3W0 3F1 3I1 3W1 0F3 0I0 0W0 3F2 3I2 3W2 0I1 0W1 3F3 3I3 3W3 0I2 0W2 0I3 0W3 .
rank 1 | .   1F0 2F0 1F1 2F1 2I0 2W0 1F2 1I0 1W0 2F2 2I1 2W1 1F3 1I1 1W1 2F3 2I2 2W2 1I2 2I3 1I3 1W2 2W3 1W3
"""


def test_picture():
    assert picture(ZBV(), 2, 4) == PICTURE


@pytest.mark.parametrize(("p", "m"), sizes(lambda p: 2 * p - 1))
def test_bubble_and_peak_are_the_papers(p, m):
    assert run(ZBV(), p, m).bubble == pytest.approx((p - 1) / 2)
    assert peaks(ZBV(), p, m) == [p] * p


@pytest.mark.parametrize(("p", "m"), sizes(lambda p: 2 * p - 1))
def test_no_rank_waits_in_its_own_window(p, m):
    sim = simulate(ZBV().table(p, m))
    assert (np.nanmin(sim.start, axis=1) == np.arange(p)).all()
    assert (np.nanmax(sim.end, axis=1) == np.arange(p) + 6 * m).all()


@pytest.mark.parametrize(("p", "m"), [(p, m) for p, m in SIZES if m < 2 * p - 1])
def test_too_few_microbatches(p, m):
    least = 2 * p - 1
    with pytest.raises(ScheduleError, match=rf"num_microbatches={m} is below {least}; the nearest valid .*={least}\."):
        ZBV().table(p, m)


def test_stages_go_down_and_up():
    assert ZBV().placement(3) == (0, 1, 2, 2, 1, 0)
