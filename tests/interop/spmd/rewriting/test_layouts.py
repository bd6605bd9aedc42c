import pytest
import torch
from torch import nn

from funpipe.interop.spmd.api import compile
from funpipe.interop.spmd.gm_transformation import GraphModuleTransformation


def turned(grad):
    """The same numbers in another order in memory."""
    order = list(reversed(range(grad.dim())))
    return grad.permute(order).contiguous().permute(order)


class Weights(nn.Module):
    """Parameters in rows, in columns, with a dimension of size 1, with gaps, and without dimensions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        made = [torch.randn(3, 4), torch.randn(4, 3).t(), torch.randn(1, 5), torch.randn(3, 8)[:, ::2], torch.randn(())]
        self.weights = nn.ParameterList([nn.Parameter(w) for w in (*made, torch.randn(2, 3, 4).permute(2, 0, 1))])


def step(model, optimizer, x):
    weights = list(model.weights)
    loss = sum((w * x * torch.arange(w.numel()).view(w.shape)).square().sum() for w in weights)
    for weight, grad in zip(weights, torch.autograd.grad(loss, weights), strict=True):
        weight.grad = turned(grad)
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("transformation", [None, GraphModuleTransformation()], ids=["in place", "functional"])
@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        (torch.optim.Adam, {"lr": 0.1, "amsgrad": True}),
        (torch.optim.AdamW, {"lr": 0.1}),
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    ],
)
def test_gradients_in_any_order_in_memory(optimizer, settings, transformation):
    model, plain = Weights(), Weights()
    fused = optimizer(model.parameters(), fused=True, **settings)
    other = optimizer(plain.parameters(), foreach=False, **settings)
    compiled = compile(gm_transformation=transformation)(step)
    for x in torch.linspace(0.1, 0.3, 3):
        compiled(model, fused, x)
        step(plain, other, x)
    for found, expected in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found, expected)
