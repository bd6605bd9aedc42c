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
    assert shown.note == "1 of 2 ranks, time 3 to 6 of 14: ranks= and time= choose others"
    assert [(box.row, box.labels[0], box.start, box.end) for box in shown.boxes] == [
        (0, "F0", pytest.approx(3.0), pytest.approx(5.0)),
        (0, "B0", pytest.approx(5.0), pytest.approx(6.0)),
        (1, "F0", pytest.approx(4.0), pytest.approx(6.0)),
    ]


def test_a_replica_that_was_not_measured():
    for replica in (1, -1):
        with pytest.raises(ScheduleError, match=rf"replica={replica} was not measured; pass one from 0 to 0\."):
            compare(PREDICTED, PROFILE, replica=replica)


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf")])
def test_a_unit_of_time_has_a_length(seconds):
    with pytest.raises(ScheduleError, match=r"seconds=.*; pass how long a unit of time is"):
        compare(PREDICTED, PROFILE, seconds=seconds)


@pytest.mark.parametrize("ranks", [1, 4])
def test_a_table_of_another_number_of_ranks(ranks):
    other = simulate(GPipe().table(ranks, 1))
    with pytest.raises(ScheduleError, match=rf"the simulated table has {ranks} ranks, but 2 were measured; simulate "):
        compare(other, PROFILE)


def test_too_much_for_one_picture(monkeypatch):
    monkeypatch.setattr(comparing, "MOST_BOXES", 4)
    with pytest.raises(ScheduleError, match=r"11 boxes are too many .* pass time=\(begin, end\) in milliseconds\."):
        compare(PREDICTED, PROFILE)
