"""Every optimizer against the one of `torch.optim`, step for step."""

import pytest
import torch

from funpipe.optim import (
    adadelta,
    adagrad,
    adam,
    adamax,
    adamw,
    apply,
    asgd,
    nadam,
    radam,
    rmsprop,
    rprop,
    sgd,
)

SETTINGS = {
    "sgd": (sgd, torch.optim.SGD, {}),
    "sgd-decay": (sgd, torch.optim.SGD, {"weight_decay": 0.1}),
    "sgd-momentum": (sgd, torch.optim.SGD, {"momentum": 0.9}),
    "sgd-dampening": (sgd, torch.optim.SGD, {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    "sgd-nesterov": (sgd, torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "sgd-dampening-alone": (sgd, torch.optim.SGD, {"dampening": 0.3}),
    "adam": (adam, torch.optim.Adam, {}),
    "adam-decay": (adam, torch.optim.Adam, {"weight_decay": 0.1, "betas": (0.8, 0.95), "eps": 1e-6}),
    "adam-no-momentum": (adam, torch.optim.Adam, {"betas": (0.0, 0.9)}),
    "adamw": (adamw, torch.optim.AdamW, {}),
    "adamw-decay": (adamw, torch.optim.AdamW, {"weight_decay": 0.3, "betas": (0.8, 0.95), "eps": 1e-6}),
    "adamw-no-decay": (adamw, torch.optim.AdamW, {"weight_decay": 0.0}),
    "adadelta": (adadelta, torch.optim.Adadelta, {"rho": 0.8, "eps": 1e-4, "weight_decay": 0.1}),
    "adagrad": (adagrad, torch.optim.Adagrad, {"lr_decay": 0.1, "initial_accumulator_value": 0.2}),
    "adagrad-decay": (adagrad, torch.optim.Adagrad, {"weight_decay": 0.1}),
    "adamax": (adamax, torch.optim.Adamax, {"betas": (0.8, 0.95), "weight_decay": 0.1}),
    "asgd": (asgd, torch.optim.ASGD, {"lambd": 0.1, "t0": 4, "weight_decay": 0.1}),
    "nadam": (nadam, torch.optim.NAdam, {"betas": (0.8, 0.95), "weight_decay": 0.1}),
    "nadam-decoupled": (nadam, torch.optim.NAdam, {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    "nadam-constant": (nadam, torch.optim.NAdam, {"momentum_decay": 0.0}),
    "radam": (radam, torch.optim.RAdam, {"betas": (0.8, 0.95), "weight_decay": 0.1}),
    "radam-decoupled": (radam, torch.optim.RAdam, {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    "rmsprop": (rmsprop, torch.optim.RMSprop, {"weight_decay": 0.1}),
    "rmsprop-centered": (rmsprop, torch.optim.RMSprop, {"centered": True, "momentum": 0.9, "alpha": 0.8}),
    "rprop": (rprop, torch.optim.Rprop, {"step_sizes": (1e-3, 0.2)}),
}
SHAPES = {"w": (7, 5), "b": (11,), "scale": (), "none": (0,)}


def leaves(random, dtype):
    return {name: torch.randn(shape, generator=random, dtype=dtype) for name, shape in SHAPES.items()}


def run(optimizer, reference, dtype, steps=10):
    """Both from the same parameters with the same gradients."""
    random = torch.Generator().manual_seed(0)
    params = leaves(random, dtype)
    theirs = {name: torch.nn.Parameter(leaf.clone()) for name, leaf in params.items()}
    torch_optimizer, state = reference(list(theirs.values())), optimizer.init(params)
    for step in range(steps):
        grads = leaves(random, dtype)
        for name, leaf in theirs.items():
            leaf.grad = grads[name].clone()
        torch_optimizer.step()
        params, state = apply(optimizer, params, grads, state, torch.tensor(step))
    return params, {name: leaf.detach() for name, leaf in theirs.items()}


@pytest.fixture
def default_dtype(dtype):
    """Torch keeps what depends on the step alone (NAdam, ASGD) in the default dtype."""
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("name", SETTINGS)
def test_equals_torch(name, dtype, tolerance, default_dtype):
    ours, reference, settings = SETTINGS[name]
    optimizer = ours(0.05, **settings)
    found, expected = run(optimizer, lambda leaves: reference(leaves, lr=0.05, foreach=False, **settings), dtype)
    for leaf in SHAPES:
        torch.testing.assert_close(found[leaf], expected[leaf], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("ours, reference", [(adam, torch.optim.Adam), (adamw, torch.optim.AdamW)])
def test_half_precision_is_rounded_once_as_in_the_fused_kernels(ours, reference):
    optimizer = ours(0.05, weight_decay=0.1)
    make = lambda leaves: reference(leaves, lr=0.05, weight_decay=0.1, fused=True)  # noqa: E731
    found, expected = run(optimizer, make, torch.bfloat16)
    for leaf in SHAPES:
        torch.testing.assert_close(found[leaf], expected[leaf], rtol=2**-7, atol=2**-9)


def test_mask_equals_parameter_groups():
    optimizer = adamw(0.05, weight_decay=0.3, decay_mask=lambda name, leaf: leaf.dim() > 1)

    def reference(leaves):
        groups = [
            {"params": [leaf for leaf in leaves if leaf.dim() > 1], "weight_decay": 0.3},
            {"params": [leaf for leaf in leaves if leaf.dim() <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=0.05, foreach=False)

    found, expected = run(optimizer, reference, torch.float64)
    for leaf in SHAPES:
        torch.testing.assert_close(found[leaf], expected[leaf], rtol=1e-12, atol=1e-12)
