import pytest

from funpipe._errors import FunpipeTypeError, ScheduleError
from funpipe.display import picture, svg, text
from funpipe.display.window import MOST_BOXES, MOST_RANKS
from funpipe.schedules import ZBV, GPipe, simulate
from tests.display.pictures import PROFILE, SIMULATION, TABLE


def test_all_of_what_is_small():
    shown = picture(TABLE)
    assert (shown.begin, shown.end, shown.note) == (0.0, 8.0, "")
    assert len(shown.boxes) == 12


def test_the_first_of_what_is_large_with_a_word():
    table = GPipe().table(100, 100)
    shown = picture(table)
    assert len(shown.rows) == MOST_RANKS
    assert MOST_BOXES // 2 < len(shown.boxes) <= MOST_BOXES
    assert shown.note == f"64 of 100 ranks, time 0 to {shown.end:g} of 398: ranks= and time= choose others"


@pytest.mark.parametrize("x", [TABLE, SIMULATION, PROFILE], ids=["table", "simulation", "profile"])
def test_others_are_chosen(x):
    shown = picture(x, ranks=[1], time=(2.0, 5.0))
    assert shown.rows == ("rank 1",)
    assert (shown.begin, shown.end) == (2.0, 5.0)
    assert all(box.row == 0 and 2.0 <= box.start <= box.end <= 5.0 for box in shown.boxes)
    assert shown.boxes
    assert shown.note.startswith("1 of 2 ranks, time 2 to 5 of ")


def test_what_only_touches_the_time_is_left_out():
    assert [box.title for box in picture(TABLE, ranks=[0], time=(1.0, 2.0)).boxes] == ["0F1: 1 to 2"]


@pytest.mark.parametrize("x", [TABLE, SIMULATION, PROFILE], ids=["table", "simulation", "profile"])
def test_the_time_of_some_ranks_is_that_of_all(x):
    ends = {(picture(x, ranks=ranks).begin, picture(x, ranks=ranks).end) for ranks in (None, [0], [1])}
    assert len(ends) == 1
    assert picture(x, ranks=[1]).note == "1 of 2 ranks: ranks= and time= choose others"


def test_a_made_picture_is_not_cut():
    made = picture(TABLE)
    assert picture(made) is made
    for choice in ({"ranks": [0]}, {"time": (0, 1)}):
        with pytest.raises(ScheduleError, match=r"a picture is drawn as it is; pass ranks= and time= to what makes it"):
            picture(made, **choice)


@pytest.mark.parametrize("draw", [svg, text])
@pytest.mark.parametrize("width", [0, -1, float("nan"), float("inf")])
def test_a_width_is_a_length(draw, width):
    with pytest.raises(ScheduleError, match=r"width=.*; pass how many (pixels|characters) the time takes, or None"):
        draw(TABLE, width=width)


@pytest.mark.parametrize("draw", [svg, text])
@pytest.mark.parametrize("width", [1, 2.5, 3])
def test_however_narrow_there_is_a_picture(draw, width):
    assert "weight gradient" in draw(ZBV().table(2, 4), width=width).replace("\n", " ")


def test_a_task_without_length_is_there():
    shown = picture(simulate(TABLE, F=0.0, B=1.0))
    assert len([box for box in shown.boxes if box.kinds == ("F",)]) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ranks": []}, "ranks is empty; name at least one rank, or leave it out for all."),
        ({"ranks": [0, 2]}, "rank 2 is not in the picture; use ranks 0 to 1."),
        ({"ranks": [0, 1, 0]}, r"rank 0 is in ranks 2 times; name each rank once\."),
        ({"ranks": [True]}, r"ranks has True; pass numbers of ranks, such as ranks=\[0, 1\]\."),
        ({"ranks": [1.0]}, r"ranks has 1\.0; pass numbers of ranks"),
        ({"time": 5}, "time=5 is no stretch of time"),
        ({"time": (1, 2, 3)}, "is no stretch of time"),
        ({"time": (3, 3)}, r"time=\(3, 3\) is no stretch of time; pass \(begin, end\) with begin before end\."),
        ({"time": (0, float("nan"))}, "is no stretch of time"),
    ],
)
def test_wrong_choices(options, message):
    with pytest.raises(ScheduleError, match=message):
        picture(TABLE, **options)


def test_what_has_no_picture():
    with pytest.raises(FunpipeTypeError, match="a str has no picture; pass a table, a simulation or a profile"):
        picture("1f1b")
