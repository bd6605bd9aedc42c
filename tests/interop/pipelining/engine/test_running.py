"""What a step leaves behind."""

import gc
import weakref

import torch
from torch import nn

from funpipe.interop.pipelining.engine import Call
from tests.interop.pipelining.engine.pipelines import WIDTH, batch, engine


def test_gradients_lie_as_their_parameters_do():
    module, (x, y) = nn.Linear(WIDTH, 3), batch()
    module.weight = nn.Parameter(torch.randn(WIDTH, 3).t())
    engine([module]).step(Call((x,), target=y))
    assert module.weight.grad.stride() == module.weight.stride() == (1, 3)


def test_a_target_that_was_the_input_may_be_another_tensor():
    (x, _), module, losses = batch(), nn.Linear(WIDTH, WIDTH), []
    made = engine([module], loss_fn=nn.functional.mse_loss)
    made.step(Call((x,), target=x))
    made.step(Call((x,), target=x.flip(0)), losses=losses)
    torch.testing.assert_close(sum(losses) / 4, nn.functional.mse_loss(module(x), x.flip(0)).detach())


def test_nothing_keeps_what_a_step_was_given_and_gave():
    made, losses = engine([nn.Linear(WIDTH, 3)]), []
    gc.collect()
    gc.disable()
    try:
        for seed in range(2):
            x, y = batch(seed=seed)
            out = made.step(Call((x,), target=y), losses=losses)
            alive = [weakref.ref(t) for t in (x, y, out, losses[0])]
            del x, y, out
            losses.clear()
            assert [ref() for ref in alive] == [None] * 4
    finally:
        gc.enable()
