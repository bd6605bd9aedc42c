"""Plain models: operators that their authors wrote."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from tests.models.entry import Entry, Given, reals, seeded

ROWS, WIDTH = 4, 16


class Swish(torch.autograd.Function):
    """x times sigmoid(x), with a backward that saves only x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return grad * (s + x * s * (1 - s))


@torch.library.custom_op("funpipe_tests::cube", mutates_args=())
def cube(x: Tensor) -> Tensor:
    """x³, by an operator that no tracer can look into."""
    return torch.from_numpy(x.detach().numpy() ** 3)


@cube.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("funpipe_tests::cube_backward", mutates_args=())
def cube_backward(grad: Tensor, x: Tensor) -> Tensor:
    """3x² times the gradient."""
    return 3 * grad * x * x


@cube_backward.register_fake
def _(grad: Tensor, x: Tensor) -> Tensor:
    return torch.empty_like(grad)


def _save(ctx: Any, inputs: Any, output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])


cube.register_autograd(lambda ctx, grad: cube_backward(grad, *ctx.saved_tensors), setup_context=_save)


class Activated(nn.Module):
    """Linear layers with a function between."""

    def __init__(self, activation: Any) -> None:
        super().__init__()
        self.activation = activation
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self.activation(layer(x))
        return x.square().mean()


def _vectors(seed: int) -> Given:
    return (reals(seed, ROWS, WIDTH),), {}


def _activated(name: str, activation: Any) -> Entry:
    four = tuple(f"layers.{i}" for i in (1, 2, 3))
    return Entry(name, lambda: seeded(lambda: Activated(activation)), _vectors, ("layers.2",), four, rows=ROWS)


def unscripted(x: Tensor) -> Tensor:
    """A function that TorchScript runs."""
    return x * torch.tanh(x) + 0.5


def scripted() -> Any:
    """It, by TorchScript, which newer releases of torch advise against."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
        return torch.jit.script(unscripted)


OPERATORS = (
    _activated("custom autograd.Function", Swish.apply),
    _activated("torch.library custom operator", lambda x: cube(torch.tanh(x))),
    _activated("torch.jit.script function", scripted()),
)
