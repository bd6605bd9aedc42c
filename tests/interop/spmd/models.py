"""Models, and eager training to compare with."""

from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Make = Callable[[Iterable[Tensor]], Optimizer]


class Layers(nn.Module):
    """Linear layers with ReLU."""

    def __init__(self, layers: int = 2, dim: int = 8) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        for _ in range(layers):
            modules.extend([nn.Linear(dim, dim), nn.ReLU()])
        self.mod = nn.Sequential(*modules)

    def forward(self, x: Tensor) -> Tensor:
        return self.mod(x)


def train_step(model: nn.Module, optimizer: Optimizer, batch: Tensor) -> None:
    """A step as users write it."""
    model(batch).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def adam(**options: Any) -> Make:
    return lambda params: torch.optim.Adam(params, lr=0.01, **options)


def twins(
    make: Make, model: nn.Module | None = None
) -> tuple[tuple[nn.Module, Optimizer], tuple[nn.Module, Optimizer]]:
    """The same model and optimizer twice."""
    torch.manual_seed(0)
    one = model if model is not None else Layers()
    other = deepcopy(one)
    return (one, make(one.parameters())), (other, make(other.parameters()))


def batches(count: int, rows: int = 4, dim: int = 8) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(rows, dim, generator=generator) for _ in range(count)]


def same(one: nn.Module, other: nn.Module) -> bool:
    """Whether two models have the same parameters and buffers, bit for bit."""
    mine, its = one.state_dict(), other.state_dict()
    return mine.keys() == its.keys() and all(torch.equal(mine[name], its[name]) for name in mine)
