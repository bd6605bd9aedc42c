"""What each of four ranks runs: every schedule in both compiled backends, on a chain of eight layers."""

from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import funpipe as fp
from funpipe.runtime import Mesh
from funpipe.schedules.registry import SCHEDULES

RANKS, MICROBATCHES, LAYERS, STEPS = 4, 8, 8, 2
NAMES = tuple({cls: name for name, cls in SCHEDULES.items() if cls is not fp.schedules.ForwardOnly}.values())
CASES = tuple(product(NAMES, ("regions", "step")))


def loss_fn(params: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
    """Equal layers, so that most stages share their code."""
    h = batch["x"]
    for i in range(LAYERS):
        h = fp.mark_stage_end(torch.tanh(h @ params[f"w{i}"] + params[f"b{i}"]))
    return F.mse_loss(h, batch["y"])


def params_of() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    return {f"{n}{i}": torch.randn(s, generator=g) / 2 for i in range(LAYERS) for n, s in (("w", (6, 6)), ("b", (6,)))}


def batch_of(seed: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(100 + seed)
    return {n: torch.randn(2 * MICROBATCHES, 6, generator=g) for n in ("x", "y")}


def training(name: str, backend: str, mesh: Mesh | None) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The losses and the parameters after a few steps of one schedule."""
    schedule = fp.schedules.get(name)()
    options: dict[str, Any] = {"num_microbatches": MICROBATCHES, "backend": backend, "mesh": mesh}
    stages = fp.stages.balanced(schedule.num_stages(RANKS))
    step = fp.train_step(loss_fn, fp.optim.sgd(0.1), schedule=schedule, stages=stages, **options)
    state, losses = step.init(params_of(), batch_of(0)), []
    for seed in range(STEPS):
        state, metrics = step(state, batch_of(seed))
        losses.append(metrics["loss"])
    return losses, step.gather(state)[0]


def on_four_ranks() -> dict[tuple[str, str], Any]:
    """All of them, one after the other."""
    torch.set_num_threads(1)
    mesh = fp.mesh(pp=RANKS, device="cpu", timeout=600)
    return {case: training(*case, mesh) for case in CASES}
