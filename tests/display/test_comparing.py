import pytest

from funpipe._errors import ScheduleError
from funpipe.display import compare, comparing, text
from funpipe.schedules import GPipe, simulate
from tests.display.pictures import PROFILE

PREDICTED = simulate(GPipe().table(2, 1), F=2.0, B=3.5)

# Waiting is idle; the prediction begins where the first measured task does.
DRAWN = """\
rank 0 predicted | ..F0--...........B0=====....
rank 0 measured  | ooF0--:...........B0======uu
rank 1 predicted | ......F0--B0=====...........
rank 1 measured  | ........F0--B0====..........
time             | 0         5         10
F- forward, B= backward, : communication, u update, o other work, . idle; a character is 0.5 ms"""


def test_rows_in_pairs_on_one_axis():
    assert text(compare(PREDICTED, PROFILE, seconds=1e-3), width=28) == DRAWN


def test_one_rank_and_a_part_of_the_time():
    shown = compare(PREDICTED, PROFILE, seconds=1e-3, ranks=[1], time=(3.0, 6.0))
    assert shown.rows == ("rank 1 predicted", "rank 1 measured")
    assert [(box.row, box.labels[0], box.start, box.end) for box in shown.boxes] == [
        (0, "F0", pytest.approx(3.0), pytest.approx(5.0)),
        (0, "B0", pytest.approx(5.0), pytest.approx(6.0)),
        (1, "F0", pytest.approx(4.0), pytest.approx(6.0)),
    ]


def test_a_replica_that_was_not_measured():
    with pytest.raises(ScheduleError, match=r"rank 2 is not in the picture; use ranks 0 to 1\."):
        compare(PREDICTED, PROFILE, replica=1)


def test_too_much_for_one_picture(monkeypatch):
    monkeypatch.setattr(comparing, "MOST_BOXES", 4)
    with pytest.raises(ScheduleError, match=r"11 boxes are too many .* pass time=\(begin, end\) in milliseconds\."):
        compare(PREDICTED, PROFILE)
