"""Small models with marked stage ends, and their programs.

A loss function marks up to three stage ends; `stages_of` cuts at the first ones, so that one model has 1 to 4 stages.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from funpipe.functional import Out, Weighted, call_loss, cat, functionalize, mark_stage_end, mean
from funpipe.programs import Programs, lower
from funpipe.schedules import OneFOneB, Schedule, Table
from funpipe.stages import Stage, partition
from funpipe.tracing import Traced, trace

ROWS, WIDTH, WORDS = 2, 6, 7
LossFn = Callable[..., Any]


def chain(params: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
    """Four layers, a stage end behind each of the first three."""
    h = batch["x"]
    for i in range(3):
        h = mark_stage_end(torch.tanh(h @ params[f"w{i}"] + params[f"b{i}"]))
    return F.mse_loss(h @ params["w3"] + params["b3"], batch["y"])


def weighted(params: dict[str, Tensor], batch: dict[str, Tensor]) -> Weighted:
    """The same layers; rows weigh differently."""
    h = batch["x"]
    for i in range(3):
        h = mark_stage_end(torch.tanh(h @ params[f"w{i}"] + params[f"b{i}"]))
    rows = (h @ params["w3"] + params["b3"] - batch["y"]).square().sum(1)
    return Weighted((rows * batch["weight"]).sum(), batch["weight"].sum())


def tied(params: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
    """Words at both ends, and again in the middle: one leaf in stages 0, 2 and the last."""
    h = mark_stage_end(torch.tanh(F.embedding(batch["ids"], params["words"]) @ params["w0"]))
    h = mark_stage_end(torch.tanh(h @ params["w1"]))
    h = mark_stage_end(torch.tanh(h @ params["words"].t() @ params["w2"]))
    return F.cross_entropy(h @ params["words"].t(), batch["ids"])


def skipping(params: dict[str, Tensor], batch: dict[str, Tensor]) -> Out:
    """A value of the first stage is read by all others, a frozen leaf is read, one leaf is not; with results."""
    first = mark_stage_end(torch.tanh(batch["x"] @ params["w0"]) * params["frozen"])
    h = mark_stage_end(torch.tanh(first @ params["w1"]) + first)
    h = mark_stage_end(torch.tanh(h @ params["w2"]) * first)
    rows = (h - batch["y"]).square().sum(1)
    return Out(rows.mean(), aux={"first": mean(first.detach().sum()), "rows": cat(rows.detach()), "y": cat(batch["y"])})


def normalized(params: dict[str, Tensor], batch: dict[str, Tensor], *, buffers: dict[str, Tensor]) -> Out:
    """Layers with batch normalization, whose running statistics are buffers."""
    out, buffers = NORMALIZED[0](params, buffers, batch["x"])
    return Out(F.mse_loss(out, batch["y"]), buffers=buffers)


class Normalized(nn.Module):
    """Three linear layers with batch normalization, a stage end behind each."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm1d(WIDTH) for _ in range(3))
        self.head = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = mark_stage_end(norm(torch.tanh(layer(x))))
        return self.head(x)


torch.manual_seed(0)
NORMALIZED = functionalize(Normalized())


def params_of(loss_fn: LossFn, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The parameters of a model; `frozen` is not trained, `unused` is not read."""
    g = torch.Generator().manual_seed(1)
    if loss_fn is normalized:
        return {n: p.detach().clone() for n, p in NORMALIZED[1].items()}
    shapes = {"frozen": (WIDTH,), "unused": (2, 2)} if loss_fn is skipping else {}
    shapes |= {f"w{i}": (WIDTH, WIDTH) for i in range(4)} | {f"b{i}": (WIDTH,) for i in range(4)}
    if loss_fn is tied:
        shapes = {"words": (WORDS, WIDTH), "w0": (WIDTH, WIDTH), "w1": (WIDTH, WIDTH), "w2": (WORDS, WIDTH)}
    leaves = {n: torch.randn(s, generator=g, dtype=dtype) / 2 for n, s in shapes.items()}
    return {n: leaf.requires_grad_(n != "frozen") for n, leaf in leaves.items()}


def batch_of(num_microbatches: int, dtype: torch.dtype = torch.float32, seed: int = 2) -> dict[str, Tensor]:
    """A batch for any of the models."""
    g = torch.Generator().manual_seed(seed)
    rows = ROWS * num_microbatches
    return {
        "x": torch.randn(rows, WIDTH, generator=g, dtype=dtype),
        "y": torch.randn(rows, WIDTH, generator=g, dtype=dtype),
        "ids": torch.randint(0, WORDS, (rows,), generator=g),
        "weight": torch.rand(rows, generator=g, dtype=dtype),
    }


def buffers_of(loss_fn: LossFn) -> dict[str, Tensor] | None:
    """The buffers of a model, if it has any."""
    return {n: b.clone() for n, b in NORMALIZED[2].items()} if loss_fn is normalized else None


def traced_of(loss_fn: LossFn, dtype: torch.dtype = torch.float32, differentiate: bool = True) -> Traced:
    """One microbatch of a model, traced."""
    params, batch = params_of(loss_fn, dtype), batch_of(1, dtype)
    return trace(loss_fn, params, batch, buffers=buffers_of(loss_fn), differentiate=differentiate)


def stages_of(traced: Traced, count: int) -> tuple[Stage, ...]:
    """The first stage ends that the model marks."""
    return partition(traced, tuple(mark.position for mark in traced.marks[: count - 1]))


def programs_of(
    loss_fn: LossFn = chain,
    num_stages: int = 2,
    num_microbatches: int = 3,
    schedule: Schedule | Table | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> Programs:
    """The programs of a model as lowering gives them."""
    traced = traced_of(loss_fn, dtype)
    table = schedule if isinstance(schedule, Table) else (schedule or OneFOneB()).table(num_stages, num_microbatches)
    return lower(traced, stages_of(traced, num_stages), table, **options)


def eager_loss(loss_fn: LossFn, params: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
    """The loss of a whole batch, uncut."""
    out = call_loss(loss_fn, params, batch, buffers_of(loss_fn))
    return out.loss_sum if out.weight is None else out.loss_sum / out.weight


MODELS: list[LossFn] = [chain, weighted, tied, skipping]
