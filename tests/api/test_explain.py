"""`fp.explain`: what it says of models that are traced, and of those that are not."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import funpipe as fp
from funpipe._errors import FunpipeTypeError
from tests.tracing.ways.hard_models import Branches, Counts, around

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


@dataclass
class Output:
    loss: Tensor
    logits: Tensor


class Residual(nn.Module):
    """Three layers; the first one's result is added at the end, and a weight is tied."""

    def __init__(self):
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.last.weight = self.first.weight
        self.spare = nn.Parameter(torch.ones(2))
        self.last.bias.requires_grad_(False)

    def forward(self, x, *, labels=None):
        h = self.first(x)
        out = self.last(self.middle(h).tanh()).tanh() + h
        return Output((out - labels).square().mean(), out) if labels is not None else out


def cut():
    return fp.stages.split_at({"middle": "beginning", "last": "beginning"})


def test_keywords_go_in_and_the_models_own_loss_is_differentiated():
    found = fp.explain(Residual(), {"x": X, "labels": X}, stages=cut())
    assert (found.what, found.way, found.error) == ("Residual", "functional", None)
    assert found.operators[1] > 0
    assert found.tied == (("last.weight", "first.weight"),)
    assert (found.unused, found.frozen) == (("spare",), ("last.bias",))
    numbers = 2 * 36 + 3 * 6 + 2
    assert found.parameters == (6, numbers, 4 * numbers)


def test_what_skips_a_stage_is_marked():
    found = fp.explain(Residual(), {"x": X, "labels": X}, stages=cut())
    forward = [c for c in found.crossings if not c.gradient]
    (skipping,) = [c for c in forward if c.skips]
    assert (skipping.maker, skipping.readers, skipping.module) == (0, (1, 2), "first")
    assert skipping.source.startswith(__file__)
    assert (skipping.type.nbytes, skipping.nbytes) == (96, 192)
    assert "0 -> 1,2 (skips 1)" in str(found)
    assert any(c.gradient for c in found.crossings)


def test_without_a_loss_the_forward_alone_is_traced():
    found = fp.explain(Residual(), X)
    assert found.way == "functional" and found.operators[1] == 0
    assert [len(found.stages), found.crossings] == [1, ()]


def test_a_loss_function_with_its_parameters():
    found = fp.explain(
        lambda p, x: (x @ p["w"] @ p["v"]).sum(), {"w": torch.ones(6, 3), "v": torch.ones(3, 2)}, X, stages=2
    )
    assert found.way == "functional"
    assert [stage.leaves for stage in found.stages] == [1, 1]
    assert found.parameters == (2, 24, 96)


def test_stages_have_figures():
    found = fp.explain(Residual(), {"x": X, "labels": X}, stages=cut())
    assert [stage.modules for stage in found.stages] == [("first",), ("middle",), ("last",)]
    assert [stage.numbers for stage in found.stages] == [42, 42, 6]
    assert all(stage.forward > 0 and stage.backward > 0 for stage in found.stages)
    assert found.stages[0].forward == 2 * 4 * 6 * 6


def test_an_opaque_module_with_what_was_tried():
    text = fp.explain(around(Counts()), X).as_text()
    assert text.startswith("Sequential: traced (modules), ")
    assert "tried           functional of 1: DataDependentError: the loss function reads a tensor's value" in text
    assert "tried           modules of 1: works" in text
    assert "opaque          1\n" in text
    assert "buffers updated 1.count" in text


def test_guards_and_random_operators_are_listed():
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(6, 6)

        def forward(self, x):
            h = nn.functional.dropout(self.linear(x), 0.5)
            return (h if x[0, 0].item() < 9 else 2 * h).square().mean()

    found = fp.explain(Reads(), X)
    assert len(found.guards) == 1 and "test_explain.py" in found.guards[0]
    assert len(found.random) == 1 and "test_explain.py" in found.random[0]


def test_a_model_that_cannot_be_traced_is_no_error():
    found = fp.explain(around(Branches()), X.to("meta"))
    assert found.way is None
    assert str(found).startswith("Sequential: cannot be traced")
    assert "pass real parameters and a real batch" in str(found)


def test_a_users_mistake_is_told_with_its_line():
    found = fp.explain(nn.Sequential(nn.Linear(6, 5), nn.Linear(6, 5)), X)
    assert found.error.startswith("TraceError: the loss function raised RuntimeError at the module 1 (Linear): ")


def test_a_cut_that_cannot_be_is_told():
    found = fp.explain(around(nn.Tanh()), X, stages=fp.stages.split_at({"7": "beginning"}))
    assert found.way == "functional" and found.stages == ()
    assert found.error.startswith("StageError: ")


@pytest.mark.parametrize("arguments", [(nn.Tanh(),), (nn.Tanh(), X, X), (len, X), ("model", X, X)], ids=str)
def test_arguments_that_do_not_fit(arguments):
    with pytest.raises(FunpipeTypeError, match="explain got .* pass"):
        fp.explain(*arguments)


def test_a_notebook_shows_the_text():
    found = fp.explain(around(nn.Tanh()), X)
    assert repr(found) == str(found) == found.as_text()
