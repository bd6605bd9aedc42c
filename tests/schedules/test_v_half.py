import pytest

from funpipe._errors import ScheduleError
from funpipe.schedules import VHalf, simulate
from tests.schedules.family import SIZES, peaks, picture, run

PICTURE = """\
rank 0 | 0F0 0F1 .   3F0 3I0 3W0 0F2 3F1 3I1 3W1 0I0 0W0 .   3F2 3I2 3W2 0I1 0W1 .   0I2 0W2
rank 1 | .   1F0 2F0 1F1 .   2I0 2F1 2W0 1F2 1I0 2I1 1W0 2F2 2W1 1I1 2I2 1W1 2W2 1I2 1W2 .
"""


def test_picture():
    assert picture(VHalf(), 2, 3) == PICTURE


@pytest.mark.parametrize(("p", "m"), SIZES)
def test_peak_is_the_papers_and_the_bubble_within_a_tenth(p, m):
    bubble = run(VHalf(), p, m).bubble
    assert max(peaks(VHalf(), p, m)) == (p + 2) // 2
    assert bubble / (bubble + 3 * m) <= 1.1 * p / (2 * m)


@pytest.mark.parametrize("p", range(2, 20))
def test_bubble_and_peak_for_any_number_of_ranks(p):
    for m in (p, 2 * p + 1):
        assert simulate(VHalf().table(p, m)).bubble == (7 * p - 8) // 2
        assert max(peaks(VHalf(), p, m)) == (p + 2) // 2


def test_the_steady_part_has_no_bubble_for_times_that_differ():
    """Twice the microbatches, twice the work, the same bubble."""
    assert 2 * 1.2 >= 2 * 1.0 - 0.7
    few, many = (simulate(VHalf().table(4, m), F=1.0, I=1.2, W=0.7).bubble for m in (32, 64))
    assert few == pytest.approx(many)


def test_too_few():
    with pytest.raises(ScheduleError, match=r"VHalf\(\): num_microbatches=0 is below 1"):
        VHalf().table(2, 0)
