"""Four equal blocks with two dropouts each, and what launched processes run; other processes import it."""

from typing import Any

import torch
from torch import Tensor, nn

import funpipe as fp


class Block(nn.Module):
    """A residual layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.drop = nn.Linear(8, 16), nn.Linear(16, 8), nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop(self.second(self.drop(torch.tanh(self.first(x)))))


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(*(Block() for _ in range(4)))


APPLY, PARAMS, BUFFERS = fp.functionalize(_model())


def initial() -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in PARAMS.items()}


def loss_fn(params: Any, batch: dict[str, Tensor]) -> Tensor:
    return (APPLY(params, BUFFERS, batch["x"])[0] - batch["y"]).square().mean()


def batch_of(number: int) -> dict[str, Tensor]:
    made = torch.Generator().manual_seed(number)
    return {n: torch.randn(16, 8, generator=made) for n in ("x", "y")}


def step_of(loss: Any = loss_fn, optimizer: Any = None, **options: Any) -> Any:
    options = {"num_microbatches": 4, "backend": "interpret", "key": 5, "stages": 1} | options
    return fp.train_step(loss, optimizer or fp.optim.sgd(0.1), **options)


def losses(step: Any, count: int, batch: Any = batch_of, **kept: Any) -> list[Tensor]:
    state, found = step.init(initial(), batch(0), **kept), []
    for number in range(count):
        state, metrics = step(state, batch(number))
        found.append(metrics["loss"])
    return [loss.clone() for loss in found]


def processes() -> dict[str, list[Tensor]]:
    """What each of two processes runs: two stages, then two replicas of two microbatches each."""
    mesh = fp.mesh(pp=2, dp=1)
    found = {"pp": losses(step_of(mesh=mesh, stages=2), 3)}
    mesh = fp.mesh(pp=1, dp=2)
    rows = slice(8 * mesh.dp_rank, 8 * mesh.dp_rank + 8)
    half = lambda number: {n: t[rows] for n, t in batch_of(number).items()}  # noqa: E731
    found["dp"] = losses(step_of(mesh=mesh, num_microbatches=2), 3, half)
    return found
