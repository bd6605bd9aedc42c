import pytest

from funpipe import MeshShape
from funpipe.display import picture
from funpipe.programs.instructions import Overlap, Run
from funpipe.programs.text import instruction_text
from funpipe.runtime.profiling import Event, Profile
from tests.display.pictures import PROFILE


def test_milliseconds_and_waiting_is_idle():
    shown = picture(PROFILE)
    assert (shown.unit, shown.seconds, shown.end) == ("ms", 1e-3, 14.0)
    assert [(box.labels[0], box.kinds[0]) for box in shown.boxes if box.row == 0] == [
        *(("before", "other"), ("F0", "F"), ("send", "communication"), ("B0", "B"), ("update", "update")),
    ]
    assert [(box.start, box.end) for box in shown.boxes if box.row == 1] == [
        (pytest.approx(4.0), pytest.approx(6.0)),
        (pytest.approx(6.0), pytest.approx(9.0)),
    ]


def test_a_box_says_which_instruction_it_is():
    assert picture(PROFILE).boxes[1].title == "h@0 = run F0 0 (batch.x@0): 1 to 3 ms"


def test_two_at_once_share_a_box():
    pair = Overlap(Run("F0", 1, ("w", "x@1"), ("h@1",)), Run("B3", 0, ("w (1)", "d@0"), ()))
    event = Event(0, instruction_text(pair), "overlap", None, None, 0.0, 0.001)
    (box,) = picture(Profile((event,), MeshShape(1))).boxes
    assert (box.kinds, box.labels) == (("F", "B"), ("0F1", "3B0"))


def test_labels_name_the_stage_where_a_rank_has_two():
    events = (Event(0, "a", "F", 0, 3, 0.0, 0.001), Event(0, "b", "F", 1, 3, 0.001, 0.002))
    assert [box.labels for box in picture(Profile(events, MeshShape(1))).boxes] == [("0F3",), ("1F3",)]
