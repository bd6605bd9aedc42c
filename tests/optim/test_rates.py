"""A learning rate from outside an optimizer."""

import pytest
import torch

from funpipe._errors import FunpipeError, FunpipeTypeError
from funpipe.optim import adam, adamw, apply, chain, clip_by_global_norm, from_pair, groups, sgd, warmup_cosine

ONES, STEP = {"w": torch.ones(3), "z": torch.ones(2)}, torch.tensor(2)
GRADS = {"w": torch.tensor([1.0, -2.0, 3.0]), "z": torch.tensor([0.5, 0.0])}


def updated(optimizer, **given):
    return apply(optimizer, ONES, GRADS, optimizer.init(ONES), STEP, **given)


@pytest.mark.parametrize(
    "make",
    [
        lambda lr: sgd(lr, momentum=0.9, dampening=0.1, weight_decay=0.1),
        lambda lr: adam(lr, weight_decay=0.1),
        lambda lr: adamw(lr, weight_decay=0.1),
        lambda lr: chain(clip_by_global_norm(0.5), adamw(lr)),
        lambda lr: groups({"w": adamw(lr), "z": sgd(lr)}, lambda name, leaf: name),
    ],
    ids=["sgd", "adam", "adamw", "chain", "groups"],
)
def test_a_given_rate_is_as_one_of_its_own(make):
    given, own = updated(make(7.0), lr=torch.tensor(0.25)), updated(make(0.25))
    for found, expected in zip(given, own, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_given_rate_takes_the_place_of_a_schedule():
    found = updated(adam(warmup_cosine(1.0, 2, 9)), lr=torch.tensor(0.25))[0]
    torch.testing.assert_close(found, updated(adam(0.25))[0], rtol=0, atol=0)


def test_a_rate_for_one_group_alone():
    optimizer = groups({"w": sgd(1.0), "z": sgd(0.5)}, lambda name, leaf: name)
    new, _ = updated(optimizer, lr={"w": torch.tensor(0.0)})
    assert torch.equal(new["w"], ONES["w"])
    assert torch.equal(new["z"], ONES["z"] - 0.5 * GRADS["z"])


def test_a_rate_for_a_group_that_is_not_there():
    optimizer = groups({"w": sgd(1.0), "z": sgd(0.5)}, lambda name, leaf: name)
    with pytest.raises(FunpipeError, match=r"lr names the group 'head', and the groups are \['w', 'z'\]; use one"):
        updated(optimizer, lr={"head": torch.tensor(0.1)})


def test_an_optimizer_without_a_rate():
    pair = from_pair(lambda params: (), lambda grads, state, params: (grads, state))
    with pytest.raises(FunpipeError, match=r"lr is given, and from_pair.* takes no learning rate from outside"):
        updated(pair, lr=torch.tensor(0.1))


@pytest.mark.parametrize("lr", [0.1, torch.ones(1), torch.tensor(1), {"w": torch.tensor(0.1)}])
def test_what_is_no_rate(lr):
    with pytest.raises(FunpipeTypeError, match=r"sgd: lr is .*; pass a 0-dim floating-point tensor"):
        updated(sgd(0.1), lr=lr)


def test_a_norm_from_outside():
    optimizer = chain(clip_by_global_norm(1.0), sgd(1.0))
    new, _ = updated(optimizer, norm=torch.tensor(10.0))
    torch.testing.assert_close(new["w"], ONES["w"] - GRADS["w"] / (10 + 1e-6))
