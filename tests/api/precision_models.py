"""Four layers in low precision: batches of which some overflow, and plain training with torch beside it."""

from typing import Any

import torch
from torch import Tensor

import funpipe as fp

LAYERS = ("a", "b", "c", "d")
COUNT = 4
SCALE = fp.DynamicScale(init=2.0**12, window=3)
FP16 = fp.Precision(compute=torch.float16, loss_scale=SCALE)
CLIPPED = fp.optim.chain(fp.optim.clip_by_global_norm(1.0), fp.optim.sgd(0.05, momentum=0.9))
OVERFLOWS = (2, 5, 6)
"""The steps whose batch makes gradients that float16 cannot hold."""


def loss_fn(params: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
    """The loss itself is float32, as with torch's autocast."""
    h = batch["x"]
    for name in LAYERS:
        h = torch.tanh(h @ params[name])
    return ((h.sum(-1) - batch["y"]).float().square() * batch["boost"].float()).mean()


def weighted(params: dict[str, Tensor], batch: dict[str, Tensor]) -> fp.Out:
    """The first layer is used twice: first and last."""
    h = torch.tanh(batch["x"] @ params["a"])
    h = torch.tanh(fp.mark_stage_end(h) @ params["b"])
    rows = (h @ params["a"].mT).sum(-1) - batch["y"]
    weight = batch["ids"] % 3
    loss = (rows.float().square() * weight * batch["boost"].float()).sum()
    return fp.Out(fp.Weighted(loss, weight.sum()), aux={"rows": fp.cat(rows), "count": fp.sum(weight.sum())})


def params_of() -> dict[str, Tensor]:
    made = torch.Generator().manual_seed(0)
    return {name: torch.randn(8, 8, generator=made) / 3 for name in LAYERS}


def batch_of(step: int, rows: int = 8, overflows: bool | None = None) -> dict[str, Tensor]:
    made = torch.Generator().manual_seed(step)
    boost = 6e4 if (step in OVERFLOWS if overflows is None else overflows) else 1.0
    x, y = torch.randn(rows, 8, generator=made), torch.randn(rows, generator=made)
    return {"x": x, "y": y, "boost": torch.full((rows,), boost), "ids": torch.arange(rows)}


def eager(steps: int | range, dtype: torch.dtype, scaler: Any = None, clip: float | None = None) -> Any:
    """Parameters, losses, and for each step its scale and whether torch skipped it."""
    params = {n: p.clone().requires_grad_() for n, p in params_of().items()}
    optimizer = torch.optim.SGD(params.values(), 0.05, momentum=0.9)
    losses, told = [], []
    for step in range(steps) if isinstance(steps, int) else steps:
        optimizer.zero_grad()
        parts = [_low(params, batch_of(step), i, dtype) for i in range(COUNT)]
        for part in parts:
            (part if scaler is None else scaler.scale(part)).backward()
        for p in params.values():
            p.grad /= COUNT
        losses.append(sum(part.detach() for part in parts) / COUNT)
        told.append(_step(params, optimizer, scaler, clip))
    return {n: p.detach() for n, p in params.items()}, losses, told


def _low(params: dict[str, Tensor], batch: dict[str, Tensor], index: int, dtype: torch.dtype) -> Tensor:
    """The loss of one microbatch, computed in a low precision."""
    part = {n: t.chunk(COUNT)[index] for n, t in batch.items()}
    low = {n: t.to(dtype) if t.is_floating_point() else t for n, t in part.items()}
    return loss_fn({n: p.to(dtype) for n, p in params.items()}, low)


def _step(params: dict[str, Tensor], optimizer: Any, scaler: Any, clip: float | None) -> tuple[float, bool] | None:
    if scaler is None:
        with torch.no_grad():
            for p in params.values():
                p.sub_(0.05 * p.grad)  # as fp.optim.sgd writes it, to the bit
        return None
    scale, before = scaler.get_scale(), params["a"].detach().clone()
    scaler.unscale_(optimizer)
    if clip is not None:
        torch.nn.utils.clip_grad_norm_(params.values(), clip)
    scaler.step(optimizer)
    scaler.update()
    return scale, torch.equal(before, params["a"])


def told_by(metrics: Any) -> tuple[float, bool]:
    """The scale of a step, and whether it was skipped."""
    return float(metrics["loss_scale"]), bool(metrics["skipped"])


def by_replica(mesh: Any, steps: int = 8, loss: Any = loss_fn, **options: Any) -> dict[str, Any]:
    """Trains on two replicas, or two stages; with replicas the batch of the first one alone overflows."""
    step = fp.train_step(loss, CLIPPED, mesh=mesh, num_microbatches=COUNT, precision=FP16, **options)
    data = [batch_of(i, overflows=i in OVERFLOWS and mesh.dp_rank == 0) for i in range(steps)]
    state, told, losses = step.init(params_of(), data[0]), [], []
    for batch in data:
        state, metrics = step(state, batch)
        told.append(told_by(metrics))
        losses.append(metrics["loss"])
    return {"told": told, "params": step.gather(state)[0], "losses": losses, "step": state.step}


def two_ranks() -> dict[str, Any]:
    """All that two processes check, on one of them."""
    replicas, stages = fp.mesh(pp=1, dp=2), fp.mesh(pp=2)
    return {
        "replicas": by_replica(replicas, backend="interpret"),
        "stages": by_replica(stages, backend="interpret"),
        "tied": by_replica(stages, loss=weighted, backend="interpret"),
    }


def two_compiled() -> dict[str, Any]:
    """Two stages, compiled, that share a leaf."""
    return by_replica(fp.mesh(pp=2), steps=4, loss=weighted)
