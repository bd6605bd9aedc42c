import pytest
from torch.distributed.pipelining import schedules as theirs

from funpipe import FunpipeError
from funpipe.interop.pipelining.schedules import get_schedule_class

NAMES = ["1F1B", "Interleaved1F1B", "GPipe", "LoopedBFS", "InterleavedZeroBubble", "ZBVZeroBubble", "DualPipeV"]


@pytest.mark.parametrize("name", [*NAMES, "PipelineScheduleSingle", "PipelineScheduleMulti"])
@pytest.mark.parametrize("written", [str, str.lower, str.upper])
def test_a_name_stands_for_the_class_that_it_stands_for_in_torch(name, written):
    assert get_schedule_class(written(name)).__name__ == theirs.get_schedule_class(name).__name__


@pytest.mark.parametrize("name", ["xx", "", "Schedule1F1B", "ForwardOnly"])
def test_other_names_are_refused_with_the_list(name):
    with pytest.raises(ValueError, match=rf"Unknown schedule name '{name}'\. The valid options are \['1F") as raised:
        get_schedule_class(name)
    assert isinstance(raised.value, FunpipeError)


def test_the_nearest_name_is_said():
    with pytest.raises(ValueError, match="the nearest is InterleavedZeroBubble"):
        get_schedule_class("InterleavedZeroBubbles")
