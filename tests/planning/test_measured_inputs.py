"""Tensors to measure with, and the time of a call."""

import pytest
import torch

import funpipe as fp
from funpipe._typing import TensorType
from funpipe.planning.measured_inputs import elapsed, inputs_of, random, seconds
from tests.planning.measuring import Script, chain


def test_real_values_are_taken_and_others_made():
    traced = chain()
    x = torch.rand(8, 16)
    inputs = inputs_of(traced, {"batch.": x})
    assert torch.equal(inputs["batch."], x) and inputs["param.a"].std() < 0.1
    assert inputs.keys() == {"batch.", "param.a", "param.b", "param.c", "param.d"}


def test_a_constant_of_the_loss_function_is_a_real_value():
    scale = torch.full((3,), 7.0)
    inputs = inputs_of(fp.trace(lambda p, x: (p * x * scale).sum(), torch.ones(3), torch.ones(3)))
    (name,) = [n for n in inputs if n.startswith("const.")]
    assert torch.equal(inputs[name], scale)


def test_a_real_value_needs_no_gradient():
    x = torch.rand(8, 16, requires_grad=True)
    assert not inputs_of(chain(), {"batch.": x})["batch."].requires_grad


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_what_may_be_an_index_is_zero(dtype):
    assert not random(TensorType((4,), (1,), dtype, "cpu")).any()


def test_random_numbers_are_small_and_the_same_every_time():
    kind = TensorType((64, 32), (1, 64), torch.float32, "cpu")
    one, other = random(kind), random(kind)
    assert torch.equal(one, other) and one.stride() == (1, 64)
    assert 0.015 < one.std() < 0.025


def test_the_time_of_a_call_is_the_median_after_some_that_warm_up():
    script = Script(64, 32, 1, 4, 2)
    assert seconds(script.call, runs=3, clock=script) == 2 and not script.durations


def test_what_a_call_started_on_a_gpu_is_waited_for(monkeypatch):
    script = Script(1.0)

    def wait():
        script.now += 10

    monkeypatch.setattr(torch.cuda, "synchronize", wait)
    assert elapsed(script.call, "cuda", script) == 11  # the first wait is over before the clock is read
