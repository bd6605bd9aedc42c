"""Hooks of parameters are called with the gradient of a step."""

import copy

import pytest
import torch
from torch import nn

import funpipe as fp
from funpipe.interop.pipelining.engine import Call
from tests.interop.pipelining.engine.pipelines import WIDTH, batch, eager, engine, gradients


def test_they_are_called_once_a_step():
    (x, y), module, seen = batch(), nn.Linear(WIDTH, 3), []
    plain = copy.deepcopy(module)
    module.weight.register_hook(lambda gradient: 2 * gradient)
    module.bias.register_post_accumulate_grad_hook(lambda param: seen.append(param.grad.clone()))
    made = engine([module])
    for _ in range(2):
        made.step(Call((x,), target=y))
    for _ in range(2):
        eager([plain], x, y)
    torch.testing.assert_close(gradients([module]), [2 * plain.weight.grad, plain.bias.grad])
    torch.testing.assert_close(seen, [plain.bias.grad / 2, plain.bias.grad])


def test_a_step_that_updates_parameters_has_none():
    (x, y), module = batch(), nn.Linear(WIDTH, 3)
    handle = module.bias.register_hook(lambda gradient: None)
    made = engine([module], optimizer=fp.optim.sgd(0.1))
    with pytest.raises(NotImplementedError, match="hook on the parameter 'bias' of stage 0 is not supported"):
        made.step(Call((x,), target=y))
    handle.remove()
    made.step(Call((x,), target=y))
