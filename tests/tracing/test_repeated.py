"""A function that does something else each time it is called is an error; what it computes once and keeps is none."""

import random

import pytest
import torch
from torch import nn

from funpipe._errors import TraceError
from funpipe.functional import functionalize
from funpipe.tracing import trace

X = torch.arange(12.0).view(4, 3)


class Called(nn.Module):
    """Knows how often it was called."""

    def __init__(self, then):
        super().__init__()
        self.linear, self.then, self.count, self.kept = nn.Linear(3, 2), then, 0, None

    def forward(self, x):
        self.count += 1
        return self.then(self, self.linear(x))


def traced(then):
    apply, params, _ = functionalize(Called(then))
    return trace(lambda p, x: apply(p, {}, x)[0].square().mean(), params, X)


def hidden(module, y):
    y = y if module.kept is None else y + module.kept
    module.kept = y.detach()
    return y


def table(module, y):
    if module.kept is None:
        module.kept = torch.arange(2.0).cos()
    return y + module.kept


def growing(module, y):
    module.kept = [*(module.kept or []), 1]
    return y[:, : len(module.kept) % 2 + 1]


def exhausted(module, y):
    if module.count > 1:
        raise StopIteration("no more")
    return y


@pytest.mark.parametrize(
    ("then", "text"),
    [
        (lambda m, y: y * m.count, r"aten\.mul\.Tensor is given \d once and \d the next time, at .*test_repeated\.py:"),
        (lambda m, y: y + torch.tensor([float(m.count), 0.0]), r"is given \[\d\.0, 0\.0\] once and \[\d\.0, 0\.0\]"),
        (
            lambda m, y: y.relu() if m.count % 2 else y.tanh(),
            r"aten\.\w+\.default is called once and aten\.\w+\.default",
        ),
        (lambda m, y: y * random.random(), r"aten\.mul\.Tensor is given 0\.\d+ once and 0\.\d+ the next time"),
        (lambda m, y: [y.relu(), y.tanh()][m.count % 2], "is given one tensor once and another the next time"),
        (growing, "once and .* the next time"),
        (hidden, "a tensor that one call has computed from what it was given is used by the next one"),
        (
            exhausted,
            r"raised StopIteration when it was called again, at .*test_repeated\.py:\d+: raise StopIter.*no more",
        ),
    ],
)
def test_what_differs_from_call_to_call_is_an_error_that_names_the_line(then, text):
    with pytest.raises(TraceError, match=text):
        traced(then)


def another_layer(module, y):
    square = y.t() @ y
    return nn.functional.linear(y, (square, square.relu())[module.count % 2])  # asks its weight for the device


def test_another_layer_in_each_call_is_named_by_its_operator():
    with pytest.raises(TraceError, match=r"aten\.t\.default is given one tensor once and another"):
        traced(another_layer)


def test_the_remedy_is_told():
    with pytest.raises(
        TraceError, match=r"pass the number in the batch as a tensor \(that of a microbatch: fp\.microbatch\.numbers"
    ):
        traced(lambda m, y: y * m.count)


@pytest.mark.parametrize(
    "then",
    [
        lambda m, y: y,
        table,
        lambda m, y: nn.functional.dropout(y, 0.5),
        lambda m, y: y * y.new_tensor(2.0) * float("nan"),
        lambda m, y: y.clone().mul_(2),
    ],
)
def test_what_is_the_same_in_every_call_is_none(then):
    assert traced(then).gradients.keys() == {"linear.weight", "linear.bias"}


def test_values_that_are_read_are_the_same_when_it_is_called_again():
    loss = lambda p, x: (x @ p["w"]).sum() * x.sum().item() * (2 if x.any() else 1)  # noqa: E731
    assert [guard.value for guard in trace(loss, {"w": torch.ones(3, 2)}, X).guards] == [66.0, True]


def test_the_number_of_a_microbatch_may_come_in_the_batch():
    loss = lambda p, b: (b["x"] @ p["w"]).sum() * b["number"][0]  # noqa: E731
    batch = {"x": X, "number": torch.arange(1)}
    assert trace(loss, {"w": torch.ones(3, 2)}, batch).guards == ()
