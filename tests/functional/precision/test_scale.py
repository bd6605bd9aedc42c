"""The scale of the loss against torch's own scaler."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from funpipe._errors import FunpipeError
from funpipe.functional.precision import DynamicScale
from funpipe.functional.precision.scale import rescaled


def by_torch(overflows, scale):
    """The scales that GradScaler has before each step."""
    weight = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], 0.0)
    scaler = torch.amp.GradScaler(
        "cpu", init_scale=scale.init, growth_factor=scale.factor, backoff_factor=1 / scale.factor,
        growth_interval=scale.window,
    )  # fmt: skip
    scaler.scale(torch.ones(()))  # makes the scale
    found = []
    for overflow in overflows:
        found.append(scaler.get_scale())
        weight.grad = torch.full_like(weight, float("inf") if overflow else 1.0)
        scaler.step(optimizer)
        scaler.update()
    return found


def by_funpipe(overflows, scale):
    value, good, found = torch.tensor(scale.init), torch.tensor(0), []
    for overflow in overflows:
        found.append(float(value))
        value, good = rescaled(value, good, torch.tensor(overflow), scale.factor, scale.window)
    return found


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 4), st.sampled_from([2.0, 4.0]))
def test_the_scales_are_those_of_torch(overflows, window, factor):
    scale = DynamicScale(2.0**16, factor, window)
    assert by_funpipe(overflows, scale) == by_torch(overflows, scale)


def test_a_scale_never_becomes_infinite():
    value, good = rescaled(torch.tensor(3e38), torch.tensor(0), torch.tensor(False), 2.0, 1)
    assert (float(value), int(good)) == (float(torch.tensor(3e38)), 0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"init": 0.0}, r"init is 0\.0; pass a positive number"),
        ({"init": float("inf")}, r"init is inf; pass a positive number"),
        ({"factor": 0.5}, r"factor is 0\.5; pass a number from 1 on"),
        ({"factor": "2"}, r"factor is '2'; pass a number"),
        ({"window": 0}, r"window is 0; pass a whole number from 1 on"),
        ({"window": 2.0}, r"window is 2\.0; pass a whole number"),
    ],
)
def test_what_is_no_scale(options, text):
    with pytest.raises(FunpipeError, match=text):
        DynamicScale(**options)
