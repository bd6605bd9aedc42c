import pytest

from funpipe._errors import ScheduleError
from funpipe.schedules import OneFOneB, VMin, simulate
from tests.schedules.family import SIZES, peaks, picture, run

PICTURE = """\
rank 0 | 0F0 .   .   3F0 3I0 3W0 0F1 0I0 0W0 3F1 3I1 3W1 0F2 0I1 0W1 3F2 3I2 3W2 .   0I2 0W2
rank 1 | .   1F0 2F0 .   .   2I0 1I0 1F1 2F1 1W0 2W0 2I1 1I1 1F2 2F2 1W1 2W1 2I2 1I2 1W2 2W2
"""


def test_picture():
    assert picture(VMin(), 2, 3) == PICTURE


@pytest.mark.parametrize(("p", "m"), SIZES)
def test_peak_is_the_papers_and_the_bubble_within_a_tenth(p, m):
    bubble = run(VMin(), p, m).bubble
    assert max(peaks(VMin(), p, m)) == (p + 4) // 3
    assert bubble / (bubble + 3 * m) <= 1.1 * 2 * p / (3 * m)


@pytest.mark.parametrize("p", range(2, 20))
def test_bubble_and_peak_for_any_number_of_ranks(p):
    for m in (p, 2 * p + 1):
        assert simulate(VMin().table(p, m)).bubble == 4 * p - (4 if p % 3 == 0 else 5)
        assert max(peaks(VMin(), p, m)) == (p + 4) // 3


def test_it_is_slower_than_1f1b_where_times_differ():
    assert run(VMin(), 8, 48, F=0.5, I=0.6, W=0.4).makespan > run(OneFOneB(), 8, 48, F=0.5, I=0.6, W=0.4).makespan


def test_too_few():
    with pytest.raises(ScheduleError, match=r"VMin\(\): num_microbatches=0 is below 1"):
        VMin().table(2, 0)
