import pytest
import torch

from funpipe._errors import FunpipeTypeError, StageError
from funpipe.functional import mark_stage_end
from funpipe.stages import at_marks, balanced, resolve, split_at
from funpipe.tracing import trace

X = torch.ones(4, 3)
PLAIN = trace(lambda p, x: (x @ p).sum(), torch.ones(3, 3), X)
MARKED = trace(lambda p, x: mark_stage_end(x @ p).sum(), torch.ones(3, 3), X)


def test_marks_come_before_the_schedules_wish():
    assert resolve(None, MARKED, 4) == at_marks()


def test_without_marks_the_schedule_says_how_many():
    assert resolve(None, PLAIN, 4) == balanced(4)


def test_a_number_is_that_many_balanced_stages():
    assert resolve(3, MARKED, 4) == balanced(3)


def test_a_cutter_is_taken_as_it_is():
    cutter = split_at({"head": "end"})
    assert resolve(cutter, MARKED, 4) is cutter


def test_nothing_says_how_many():
    with pytest.raises(StageError, match=r"nothing says how many stages there are; pass stages=n, or mark their ends"):
        resolve(None, PLAIN)


@pytest.mark.parametrize("stages", ["4", True, {"layers.4": "end"}, 2.0])
def test_something_else(stages):
    with pytest.raises(FunpipeTypeError, match=r"stages is .*; pass the number of stages, fp.stages.balanced\(n\)"):
        resolve(stages, PLAIN, 2)


def test_too_few_stages():
    with pytest.raises(StageError, match=r"balanced got 0 stages"):
        resolve(0, PLAIN)
