"""Values that a model reads out of tensors in Python: constants of the stages, which check them."""

import pytest
import torch
from torch import nn

from funpipe.interop.pipelining import SplitPoint, pipeline
from funpipe.interop.pipelining._IR.reads import values_read
from funpipe.interop.pipelining.errors import PipeValueError
from tests.interop.pipelining._IR.helpers import saved_and_loaded


class Reading(nn.Module):
    """Branches on a mask, scales by a number, and counts its calls; its stages begin with its layers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x, mask):
        self.calls += 1
        y = self.first(x)
        if mask.any():
            y = y * mask.sum().item()
        with torch.no_grad():
            limit = float(mask.max())
        return self.last(y) + limit * mask.tolist()[0]


X, MASK = torch.ones(3, 4), torch.tensor([1, 0, 2, 0])


def cut(mask=MASK):
    model = Reading()
    return model, pipeline(model, (X, mask), split_spec={"last": SplitPoint.BEGINNING})


def test_other_inputs_give_what_the_model_gives():
    model, pipe = cut()
    x = torch.randn(5, 4)
    torch.testing.assert_close(pipe(x, MASK)[0], model(x, MASK))


def test_the_example_run_changes_nothing():
    torch.manual_seed(1)
    wanted = torch.rand(1)
    torch.manual_seed(1)
    model, _ = cut()
    torch.manual_seed(1)
    assert model.calls == 0 and torch.equal(torch.rand(1), wanted)


@pytest.mark.parametrize("mask", [[0, 0, 0, 0], [1, 0, 2, 1], [0, 1, 2, 0]])
def test_another_value_is_an_error_that_names_the_line(mask):
    _, pipe = cut()
    with pytest.raises(
        PipeValueError, match=r"the model reads .* at .*test_reads\.py:\d+, .* was .*pipeline\(\) again"
    ):
        pipe(X, torch.tensor(mask))


def test_the_branch_is_that_of_the_example():
    model, pipe = cut(torch.zeros(4, dtype=torch.int64))
    torch.testing.assert_close(pipe(X, 0 * MASK)[0], model(X, 0 * MASK))


def test_a_saved_stage_still_checks():
    stage = saved_and_loaded(cut()[1].get_stage_module(0))
    with pytest.raises(PipeValueError, match="call pipeline"):
        stage(X, 0 * MASK)


def test_what_has_no_values_reads_none():
    assert values_read(Reading(), (X.to("meta"), MASK.to("meta")), {}) == ()
