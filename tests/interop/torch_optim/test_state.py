"""Training that goes from torch to a train step and back, with the numbers of training that stays."""

import copy

import pytest
import torch

import funpipe as fp
from funpipe.interop.torch_optim import from_torch, from_torch_state, to_torch
from funpipe.interop.torch_optim.errors import TorchOptimError
from tests.interop.torch_optim.models import advance, assert_same, model, step_for, train

CLASSES = {
    "SGD": {"lr": 0.1, "momentum": 0.9},
    "Adam": {"lr": 0.05, "weight_decay": 0.1},
    "AdamW": {"lr": 0.05},
    "Adamax": {"lr": 0.05},
    "NAdam": {"lr": 0.05},
    "RAdam": {"lr": 0.05, "betas": (0.8, 0.9)},
    "Adagrad": {"lr": 0.05, "lr_decay": 0.1},
    "Adadelta": {"lr": 0.5},
    "RMSprop": {"lr": 0.01, "momentum": 0.5, "centered": True},
    "ASGD": {"lr": 0.05, "t0": 2},
    "Rprop": {"lr": 0.01},
    "Adafactor": {"lr": 0.05},
    "Muon": {"lr": 0.05},
}


@pytest.fixture(autouse=True)
def wide():
    """Torch keeps counters in the default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def made(name, module, **settings):
    return getattr(torch.optim, name)(module.parameters(), **(CLASSES[name] | settings))


@pytest.mark.parametrize("name", CLASSES)
def test_two_steps_in_torch_two_here_two_in_torch(name):
    module, other = (model(bias=name != "Muon") for _ in range(2))
    optimizer, reference = made(name, module), made(name, other)
    train(other, reference, range(6))
    train(module, optimizer, range(2))
    step, state = step_for(module, from_torch(optimizer, module), stages=2)
    steps = 2 if name in ("SGD", "Muon") else None
    state = from_torch_state(step, state, module, optimizer, steps=steps)
    state = advance(step, state, range(2, 4))
    assert state.step == 4
    to_torch(step, state, module, optimizer)
    train(module, optimizer, range(4, 6))
    assert_same(module, other)


@pytest.mark.parametrize("name", CLASSES)
def test_there_and_back_are_the_same_bits(name):
    module = model(bias=name != "Muon")
    optimizer = made(name, module)
    train(module, optimizer, range(3))
    before = copy.deepcopy(optimizer.state_dict()["state"])
    step, state = step_for(module, from_torch(optimizer, module))
    state = from_torch_state(step, state, module, optimizer, steps=3)
    blank = model(bias=name != "Muon", seed=1)
    new = made(name, blank)
    to_torch(step, state, blank, new)
    after = new.state_dict()["state"]
    assert after.keys() == before.keys()
    for index, own in before.items():
        assert {k: v for k, v in own.items() if v is not None}.keys() == after[index].keys()
        for key, value in after[index].items():
            if key not in ("mu_product", "eta", "mu"):  # counted again
                assert torch.equal(value, own[key]), key
            torch.testing.assert_close(value, own[key], rtol=1e-12, atol=0)
    assert_same(module, blank, tolerance=0)


def test_parameter_groups_become_groups():
    module, other = model(), model()

    def groups(module):
        bodies = [module.first.weight, module.first.bias]
        return torch.optim.AdamW([{"params": bodies, "lr": 0.1}, {"params": [module.last.weight], "weight_decay": 0.5}])

    optimizer, reference = groups(module), groups(other)
    train(other, reference, range(4))
    train(module, optimizer, range(2))
    step, state = step_for(module, from_torch(optimizer, module))
    state = advance(step, from_torch_state(step, state, module, optimizer), range(2, 4))
    to_torch(step, state, module, optimizer)
    assert_same(module, other)
    assert torch.equal(module.last.bias, model().last.bias)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_the_optimizer_may_be_in_a_chain():
    module = model()
    optimizer = made("Adam", module)
    train(module, optimizer, range(2))
    whole = fp.optim.ema(fp.optim.chain(fp.optim.clip_by_global_norm(1.0), from_torch(optimizer, module)))
    step, state = step_for(module, whole)
    averages = step.ema(state)
    state = from_torch_state(step, state, module, optimizer)
    slots = step.slots(state)
    assert torch.equal(slots["1.m"]["first.weight"], optimizer.state[module.first.weight]["exp_avg"])
    assert all(torch.equal(leaf, averages[name]) for name, leaf in step.ema(state).items())


def test_an_optimizer_without_state_begins():
    module = model()
    optimizer = made("Adam", module)
    step, state = step_for(module, from_torch(optimizer, module))
    state = from_torch_state(step, state, module, optimizer)
    assert state.step == 0
    to_torch(step, state, module, optimizer)
    assert optimizer.state[module.first.weight] == {}


def test_different_counts_of_steps_are_refused():
    module = model()
    optimizer = made("Adam", module)
    train(module, optimizer, range(1))
    optimizer.state[module.first.weight]["step"] += 1
    step, state = step_for(module, from_torch(optimizer, module))
    with pytest.raises(TorchOptimError, match=r"made \[1, 2\] steps, and a train step has one count"):
        from_torch_state(step, state, module, optimizer)


def test_another_modules_parameters_are_refused():
    module = model()
    optimizer = made("Adam", model())
    with pytest.raises(TorchOptimError, match=r"a parameter of shape \(6, 4\) that is not the module's"):
        from_torch(optimizer, module)


def test_other_names_are_refused():
    module = model()
    optimizer = made("SGD", module)
    loss = lambda p, x: (x @ p["w"]).square().mean()  # noqa: E731
    step = fp.train_step(loss, fp.optim.sgd(0.1), backend="interpret")
    state = step.init({"w": torch.ones(4, 2)}, torch.ones(4, 4))
    with pytest.raises(TorchOptimError, match=r"do not both have 'first\.bias': train what fp\.functionalize"):
        to_torch(step, state, module, optimizer)


def test_a_step_that_accumulates_counts_otherwise():
    module = model()
    optimizer = made("AdamW", module)
    train(module, optimizer, range(2))
    step, state = step_for(module, fp.optim.accumulate(from_torch(optimizer, module), 3))
    with pytest.raises(TorchOptimError, match="accumulates gradients, so it counts steps where torch counts updates"):
        from_torch_state(step, state, module, optimizer)
    with pytest.raises(TorchOptimError, match="counts steps where torch counts updates"):
        to_torch(step, state, module, optimizer)
    assert from_torch_state(step, state, module, optimizer, steps=6).step == 6
