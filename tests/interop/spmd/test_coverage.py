"""Operators and uses of sizes that steps have, each in a model of its own."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from funpipe.interop.spmd.api import compile
from tests.interop.spmd.models import same, train_step, twins


class Made(nn.Module):
    """A linear layer, an embedding, a buffer, and a function of them."""

    def __init__(self, function: Callable[["Made", Tensor], Tensor]) -> None:
        super().__init__()
        self.linear, self.embedding = nn.Linear(6, 6), nn.Embedding(10, 6)
        self.register_buffer("table", torch.arange(60.0).reshape(10, 6))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


FLOATS = {
    "log_softmax": lambda m, x: F.log_softmax(m.linear(x), dim=1),
    "nll_loss": lambda m, x: F.nll_loss(F.log_softmax(m.linear(x), dim=1), torch.zeros(len(x), dtype=torch.long)),
    "factory, full": lambda m, x: m.linear(x) + torch.full(x.shape, 2.0) * m.linear.bias,
    "factory, arange": lambda m, x: m.linear(x) * torch.arange(x.numel()).reshape(x.shape),
    "number of elements": lambda m, x: m.linear(x) * x.numel(),
    "strides": lambda m, x: m.linear(x).as_strided(x.size(), x.stride()) * m.linear.weight.stride(0),
    "a scalar": lambda m, x: m.linear(x) * 0.5 + m.linear.bias.sum(),
    "stack": lambda m, x: torch.stack([m.linear(x), m.linear(x) * 2], dim=1),
    "arithmetic on sizes": lambda m, x: m.linear(x).reshape(x.size(0) * 2 // 2, -1) / (x.size(1) + 1),
    "slice": lambda m, x: m.linear(x)[: x.size(0) - 1, 1:-1],
    "cat of many": lambda m, x: torch.cat([m.linear(x) for _ in range(20)]),
    "expand": lambda m, x: m.linear.bias.expand(x.size(0), 6) * m.linear(x),
    "views": lambda m, x: m.linear(x).view(-1, 2, 3).squeeze().transpose(1, 2).flatten(),
    "a buffer": lambda m, x: m.linear(x) + m.table[: len(x)],
    "ones and repeat": lambda m, x: m.linear(x) + torch.ones(1, 6).repeat(len(x), 1),
    "layer norm": lambda m, x: F.layer_norm(m.linear(x), (6,)),
    "attention": lambda m, x: F.scaled_dot_product_attention(m.linear(x)[None], x[None], x[None]),
}
INDICES = {
    "embedding": lambda m, x: m.linear(m.embedding(x)),
    "positional embedding": lambda m, x: m.embedding(x) + m.embedding(torch.arange(x.size(1))),
}


def check(function: Callable[[Made, Tensor], Tensor], batch: Tensor) -> None:
    (mine, optimizer), (its, other) = twins(lambda params: torch.optim.SGD(params, lr=0.01), Made(function))
    step = compile()(train_step)
    for _ in range(2):
        step(mine, optimizer, batch)
        train_step(its, other, batch)
    assert same(mine, its)


@pytest.mark.parametrize("name", FLOATS)
def test_floats(name):
    check(FLOATS[name], torch.linspace(-1, 1, 24).reshape(4, 6))


@pytest.mark.parametrize("name", INDICES)
def test_indices(name):
    check(INDICES[name], torch.arange(8).reshape(2, 4))
