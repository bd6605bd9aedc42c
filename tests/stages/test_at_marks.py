import pytest
import torch

from funpipe._errors import StageError
from funpipe.functional import mark_stage_end
from funpipe.stages import at_marks, partition
from funpipe.tracing import trace

PARAMS = {"a": torch.ones(3, 3), "b": torch.ones(3, 2)}
X = torch.ones(4, 3)


def test_a_stage_ends_at_each_mark():
    def loss(p, x):
        h = mark_stage_end(x @ p["a"])
        return mark_stage_end(h @ p["b"]).sum()

    traced = trace(loss, PARAMS, X)
    assert at_marks()(traced) == (1, 2)
    assert [s.params for s in partition(traced, (1, 2))] == [("a",), ("b",), ()]


def test_a_mark_of_several_tensors_is_one_cut():
    def loss(p, x):
        h, x = mark_stage_end((x @ p["a"], x))
        return (h + x).sum()

    assert at_marks()(trace(loss, PARAMS, X)) == (1,)


def test_a_model_without_marks():
    with pytest.raises(
        StageError, match=r"no stage marks; put x = fp.mark_stage_end\(x\) .* stages=fp.stages.balanced"
    ):
        at_marks()(trace(lambda p, x: (x @ p["a"]).sum(), PARAMS, X))


def test_a_mark_of_the_batch():
    with pytest.raises(StageError, match=r"the mark 'x' lies before the first operation .* stage 0 would be empty"):
        at_marks()(trace(lambda p, x: (mark_stage_end(x, name="x") @ p["a"]).sum(), PARAMS, X))


def test_a_mark_of_the_loss():
    with pytest.raises(StageError, match=r"the mark 'mark0' lies after the last operation .* Remove it\."):
        at_marks()(trace(lambda p, x: mark_stage_end((x @ p["a"]).sum()), PARAMS, X))


def test_two_marks_with_only_a_view_between_them():
    def loss(p, x):
        h = mark_stage_end(x @ p["a"], name="one")
        return mark_stage_end(h.t(), name="two").sum()

    with pytest.raises(StageError, match=r"the mark 'one' and the mark 'two' give the same cut: .* Remove one of the"):
        at_marks()(trace(loss, PARAMS, X))
