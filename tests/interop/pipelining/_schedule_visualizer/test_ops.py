import pytest
from torch.distributed.pipelining import _schedule_visualizer as theirs

from funpipe import FunpipeError
from funpipe.interop.pipelining import schedules
from funpipe.interop.pipelining._schedule_visualizer import get_schedule_ops
from tests.interop.pipelining.schedules.made import as_text

NAMES = ["GPipe", "1F1B", "LoopedBFS", "Interleaved1F1B", "InterleavedZeroBubble", "ZBVZeroBubble", "DualPipeV"]


def text(found):
    return [as_text(row) for row in found]


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("1F1B", "LoopedBFS")])
@pytest.mark.parametrize(("p", "m"), [(2, 4), (3, 6)])
def test_the_rows_are_those_of_torch_but_for_idle_cells(name, p, m):
    """1F1B is wrong there on the last rank, and looped BFS runs its backwards the other way round."""
    rows = get_schedule_ops(name, p, m), theirs.get_schedule_ops(name, p, m)
    found, expected = ([[cell for cell in row if cell != "."] for row in text(one)] for one in rows)
    assert found == expected


@pytest.mark.parametrize("options", [{}, {"add_spacing": True}, {"with_comms": True}])
@pytest.mark.parametrize("name", NAMES)
def test_every_schedule_has_every_picture(name, options):
    """torch raises for GPipe and 1F1B with spacing or messages."""
    found = get_schedule_ops(name, 2, 4, **options)
    assert len(found) == 2
    assert all(any(str(action).endswith("F3") for action in row) or "F3;" in str(row) for row in found)


@pytest.mark.parametrize("name", NAMES)
def test_receives_are_late_if_asked_for(name):
    early, late = (get_schedule_ops(name, 2, 4, with_comms=True, defer_pp_recv=defer) for defer in (False, True))
    assert [sorted(row) for row in text(early)] == [sorted(row) for row in text(late)]
    assert (text(early) == text(late)) == (name == "GPipe"), "those of GPipe are late by themselves"


@pytest.mark.parametrize("name", ["InterleavedZeroBubble", "DualPipeV"])
def test_messages_are_those_of_the_schedule(name):
    cls = schedules.get_schedule_class(name)
    assert text(get_schedule_ops(cls, 2, 4, with_comms=True)) == text(get_schedule_ops(name, 2, 4, with_comms=True))
    assert "0SEND_F0" in text(get_schedule_ops(name, 2, 4, with_comms=True))[0]


def test_inference_has_rows_too():
    """torch raises KeyError."""
    assert text(get_schedule_ops(schedules._ScheduleForwardOnly, 2, 2)) == [["0F0", "0F1", "."], [".", "1F0", "1F1"]]


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        (("nope", 2, 2), ValueError, "Unknown schedule name 'nope'"),
        ((int, 2, 2), ValueError, "Invalid schedule: <class 'int'>"),
        ((5, 2, 2), TypeError, "schedule is a int; pass a schedule class"),
        (("GPipe", 2, 2, 2), AssertionError, "Expected num_stages_per_rank to be 1, got 2"),
        (("ZBVZeroBubble", 2, 4, 1), AssertionError, "Expected num_stages_per_rank >= 2, got 1"),
        (("GPipe", 2, 2, None, True, True), ValueError, "Cannot add spacing and view comms at the same time"),
        ((schedules._PipelineScheduleRuntime, 2, 2), AssertionError, "Expected pipeline_order to not be None"),
    ],
)
def test_what_has_no_picture_is_refused(given, error, match):
    with pytest.raises(error, match=match) as raised:
        get_schedule_ops(*given)
    assert isinstance(raised.value, FunpipeError)
