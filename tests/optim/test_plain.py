import pytest
import torch

from funpipe._errors import FunpipeTypeError, TreeError
from funpipe.optim import adamw, apply, context, sgd

ONES = {"w": torch.ones(2)}


def test_context_of_named_leaves():
    optimizer = adamw(0.5, weight_decay=0.5, decay_mask=lambda name, leaf: name == "w")
    ctx = context(
        optimizer, {"w": torch.ones(2), "b": torch.ones(1)}, {"w": torch.ones(2), "b": torch.ones(2)}, torch.tensor(4)
    )
    assert (ctx.label("w"), ctx.label("b")) == ("decay", "no decay")
    assert ctx.global_norm().item() == 2.0
    assert ctx.scalars["kept"].item() == 0.75
    assert ctx.step.item() == 4


def test_nothing_is_recorded_for_autograd():
    params, _ = apply(sgd(0.1), {"w": torch.nn.Parameter(torch.ones(2))}, ONES, {}, torch.tensor(0))
    assert not params["w"].requires_grad


@pytest.mark.parametrize(
    "grads, message",
    [
        ({}, r"'w' has a parameter but no gradient; leave a frozen or unused leaf out of both"),
        ({**ONES, "v": torch.ones(2)}, r"'v' has a gradient but no parameter"),
        ({"w": torch.ones(3)}, r"gradient of 'w' has shape \(3,\) and its parameter \(2,\); pass a gradient of"),
    ],
)
def test_gradients_of_other_leaves(grads, message):
    with pytest.raises(TreeError, match=message):
        apply(sgd(0.1), ONES, grads, {}, torch.tensor(0))


@pytest.mark.parametrize("step", [0, torch.zeros(1, dtype=torch.int64), torch.tensor(0.0)])
def test_bad_steps(step):
    with pytest.raises(FunpipeTypeError, match=r"the step is .*; pass a 0-dim integer tensor"):
        apply(sgd(0.1), ONES, ONES, {}, step)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, adamw])
def test_what_is_no_optimizer(optimizer):
    with pytest.raises(FunpipeTypeError, match="the optimizer is of type .*; pass one of funpipe.optim, such as adamw"):
        apply(optimizer, ONES, ONES, {}, torch.tensor(0))
