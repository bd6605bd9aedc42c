import pytest
import torch

from funpipe._errors import FunpipeError
from funpipe.optim import apply, lion
from tests.optim.references import draw

SHAPES = {"w": (7, 5), "b": (11,), "number": ()}


def reference(params, grads, momentum, lr, betas, weight_decay):
    """Algorithm 2 of the paper."""
    for name, p in params.items():
        c = betas[0] * momentum[name] + (1 - betas[0]) * grads[name]
        params[name] = p - lr * (torch.sign(c) + weight_decay * p)
        momentum[name] = betas[1] * momentum[name] + (1 - betas[1]) * grads[name]


@pytest.mark.parametrize(("betas", "weight_decay"), [((0.9, 0.99), 0.0), ((0.5, 0.8), 0.3)])
def test_equals_the_algorithm_of_the_paper(betas, weight_decay):
    optimizer, params = lion(0.05, betas, weight_decay), draw(0, SHAPES)
    state, expected = optimizer.init(params), dict(params)
    momentum = {name: torch.zeros_like(leaf) for name, leaf in params.items()}
    for step in range(6):
        grads = draw(step + 1, SHAPES)
        params, state = apply(optimizer, params, grads, state, torch.tensor(step))
        reference(expected, grads, momentum, 0.05, betas, weight_decay)
    for name, leaf in expected.items():
        torch.testing.assert_close(params[name], leaf, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(state["m"][name], momentum[name], rtol=1e-12, atol=1e-12)


def test_a_learning_rate_may_come_from_outside():
    leaves = {"w": torch.ones(2)}
    new, _ = apply(lion(0.1), leaves, leaves, lion().init(leaves), torch.tensor(0), lr=torch.tensor(0.5))
    assert new["w"].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("settings", [{"betas": (1.0, 0.9)}, {"weight_decay": -0.1}, {"lr": -1.0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(FunpipeError, match=r"lion: .* is .*; pass a number"):
        lion(**settings)
