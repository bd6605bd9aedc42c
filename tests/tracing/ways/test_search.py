import pytest
import torch
from torch import nn

import funpipe as fp
from funpipe._errors import TraceError
from funpipe.functional import functionalize
from funpipe.tracing import trace
from tests.tracing.ways.hard_models import Branches, Numpy, around

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


def traced(model, way="auto", x=X):
    torch.manual_seed(0)
    apply, params, _ = functionalize(model)
    return trace(lambda p, x: apply(p, {}, x)[0].square().mean(), params, x, way=way)


def error_of(model, way="auto", x=X):
    with pytest.raises(TraceError) as caught:
        traced(model, way, x)
    return str(caught.value)


def test_the_functional_way_is_tried_first_and_leaves_no_mark():
    found = traced(around(nn.Tanh()))
    assert (found.way, found.attempts, found.opaque, found.objects) == ("functional", (), (), {})
    assert "way " not in found.as_text()


def test_what_was_tried_is_in_the_text():
    found = traced(around(Branches()))
    assert [a.way for a in found.attempts] == ["functional", "export", "export, strict", "modules"]
    assert found.attempts[0].source is not None and "hard_models.py" in found.attempts[0].source
    lines = found.as_text().splitlines()
    assert lines[0].startswith("way   functional of 1: DataDependentError: the loss function reads a tensor's value")
    assert lines[3] == "way   modules of 1: works"
    assert any("call.default(" in line and "opaque 1 (Branches)" in line for line in lines)


def test_ways_that_are_not_wanted_are_not_tried():
    assert [a.way for a in traced(around(Branches()), "modules").attempts] == ["functional", "modules"]
    assert "reads a tensor's value" in error_of(around(Branches()), "functional")
    assert "Other ways did not work either: export of 1: " in error_of(around(Branches()), "export")
    assert traced(around(Numpy()), "export").way == "export"


def test_modules_of_one_class_are_replaced_together():
    found = traced(nn.Sequential(Branches(), nn.Linear(6, 6), Branches()), "modules")
    assert found.opaque == ("0", "2")
    assert [a.way for a in found.attempts] == ["functional", "modules"]


def test_the_exported_part_keeps_names_paths_and_lines():
    found = traced(around(Numpy()))
    assert "1.linear.weight" in found.gradients
    inside = [n for n in found.forward if (n.meta["path"] or "").startswith("1")]
    assert "1.linear" in {n.meta["path"] for n in inside}
    assert all("hard_models.py" in n.meta["source"] for n in inside if n.meta["path"] == "1")


class WrongShape(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 5)

    def forward(self, x):
        return self.linear(x).view(7)


def test_the_users_own_mistake_is_reported_and_nothing_else_is_tried():
    text = error_of(around(WrongShape()))
    assert text.endswith("is invalid for input of size 20. Correct that line, then trace again.")
    assert "Other ways" not in text


def test_without_values_the_error_asks_for_them():
    text = error_of(around(Branches()), x=X.to("meta"))
    assert text.endswith("this one has leaves without values: pass real parameters and a real batch.")


def test_a_failure_outside_of_modules_is_as_ever():
    with pytest.raises(TraceError, match="reads a tensor's value in Python"):
        trace(lambda p, x: (x @ p).sum() if p.sum() > 0 else x.sum(), torch.ones(6, 2), X)


def test_a_way_that_there_is_not():
    with pytest.raises(TraceError, match="trace is 'dynamo'; use one of 'auto', 'functional', 'export', 'modules'"):
        traced(around(nn.Tanh()), "dynamo")
    with pytest.raises(fp.FunpipeError, match="trace is 'dynamo'; use one of"):
        fp.train_step(lambda p, x: x.sum(), fp.optim.sgd(0.1), trace="dynamo")


class Outer(nn.Module):
    """Its part returns as many rows as are positive; it fills them up again."""

    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(6, 6)

        def forward(self, x):
            h = self.linear(x)
            return h[: int((h.sum(1) > 0).sum())]

    def __init__(self):
        super().__init__()
        self.part = self.Part()

    def forward(self, x):
        rows = self.part(x), self.part(-x)
        return sum(nn.functional.pad(h, (0, 0, 0, 4 - len(h))) for h in rows)


def test_the_module_around_one_whose_result_has_no_fixed_shape_is_called():
    assert traced(around(Outer()), "modules").opaque == ("1",)


class DropsAndNumpy(Numpy):
    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.5, self.training)


def test_an_evaluation_switches_dropout_off_in_what_is_exported():
    torch.manual_seed(0)
    model = around(DropsAndNumpy())
    apply, params, _ = functionalize(model)
    loss = lambda p, x: apply(p, {}, x)[0].square().mean()  # noqa: E731
    step = fp.train_step(loss, fp.optim.sgd(0.1), key=0, backend="interpret")
    found = fp.eval_step(loss, like=step)(step.init(params, X), X)["loss"]
    assert step.lowered.origin.traced.way == "export"
    torch.testing.assert_close(found, model.eval()(X).square().mean().detach())
