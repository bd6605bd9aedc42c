"""What each rank of the launched tests runs; in a module of its own, since other processes import it."""

import warnings
from pathlib import Path
from typing import Any

import optree
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

import funpipe as fp
from tests.api.models import batch_of, batches, loss_fn, params_of, step_of, trained

CLIPPED = fp.optim.chain(fp.optim.clip_by_global_norm(0.05), fp.optim.adamw(1e-2))
MOMENTUM = fp.optim.sgd(0.1, momentum=0.9)


def raised(function: Any, *args: Any) -> tuple[str, str]:
    """The type and text of the error."""
    try:
        function(*args)
    except Exception as error:
        return type(error).__name__, str(error)
    return "None", "no error"


def weighted(params: Any, batch: dict[str, Tensor]) -> fp.Out:
    """Rows weigh differently; every reducer is used."""
    h = torch.tanh(batch["x"] @ params["first"]["weight"] + params["first"]["bias"])
    h = torch.tanh(fp.mark_stage_end(h) @ params["rest"][0])
    rows = (h @ params["rest"][1][0] - batch["y"]).square().sum(1)
    weight = batch["x"][:, 0].abs()
    found = rows.detach()
    aux = {"cat": fp.cat(found), "mean": fp.mean(found.mean()), "sum": fp.sum(weight.sum()), "max": fp.max(found.max())}
    early = {"last": fp.last(batch["x"]), "count": fp.sum((weight > 0).sum())}
    return fp.Out(fp.Weighted((rows * weight).sum(), weight.sum()), aux=aux | early)


class Tied(nn.Module):
    """One leaf on the first and on the last stage."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.mix, self.head = nn.Embedding(7, 4), nn.Linear(4, 4), nn.Linear(4, 7, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.tanh(self.mix(fp.mark_stage_end(torch.tanh(self.words(ids))))))


APPLY_TIED = fp.functionalize(Tied())[0]


def tied_loss(params: dict[str, Tensor], ids: Tensor) -> Tensor:
    return F.cross_entropy(APPLY_TIED(params, {}, ids)[0], (ids + 1) % 7)


class Normalized(nn.Module):
    """Batch normalization on both stages."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(n, 4) for n in (5, 4))
        self.norms = nn.ModuleList(nn.BatchNorm1d(4) for _ in range(2))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = fp.mark_stage_end(torch.tanh(self.norms[0](self.layers[0](x))))
        return self.head(torch.tanh(self.norms[1](self.layers[1](h))))


APPLY_NORMALIZED = fp.functionalize(Normalized())[0]


def normalized_loss(params: Any, batch: dict[str, Tensor], *, buffers: dict[str, Tensor]) -> fp.Out:
    out, buffers = APPLY_NORMALIZED(params, buffers, batch["x"])
    return fp.Out(F.mse_loss(out, batch["y"]), buffers=buffers)


def share(batch: Any, mesh: Any) -> Any:
    """This replica's part of the global batch."""
    return optree.tree_map(lambda t: t.chunk(mesh.shape.dp)[mesh.dp_rank], batch)


def training(mesh: Any, optimizer: Any, steps: int = 20, loss: Any = loss_fn, **options: Any) -> dict[str, Any]:
    """Trains on this replica's part; metrics are read by rank 0 at the very end, by the others at once."""
    step = step_of(loss, optimizer, mesh=mesh, **options)
    state, found = step.init(params_of(), share(batch_of(), mesh)), []
    for batch in batches(steps):
        state, metrics = step(state, share(batch, mesh))
        found.append(metrics if dist.get_rank() == 0 else dict(metrics))
    params, _ = step.gather(state)
    return {"metrics": [dict(metrics) for metrics in reversed(found)][::-1], "params": params}


def tied_training(mesh: Any, **options: Any) -> dict[str, Any]:
    """The losses, the whole tree, and this rank's own copy of the tied leaf."""
    _, params, _ = fp.functionalize(Tied())
    step = step_of(tied_loss, fp.optim.adamw(1e-2), mesh=mesh, **options)
    state, losses = trained(step, params, [share(torch.arange(16) % 7, mesh)] * 5)
    return {"losses": losses, "params": step.gather(state)[0], "copy": step.state_dict(state)["params"]["words.weight"]}


def buffers_after(mesh: Any, which: str, folder: Path | None = None, **options: Any) -> dict[str, Tensor]:
    _, params, buffers = fp.functionalize(Normalized())
    step = step_of(normalized_loss, mesh=mesh, num_microbatches=2, buffers=which, **options)
    state, _ = trained(step, params, [share(batch, mesh) for batch in batches(2, rows=16)], buffers=buffers)
    if folder is not None:
        fp.checkpoint.save(folder / "normalized", step.state_dict(state), mesh)
    return step.gather(state)[1]


def checkpoints(mesh: Any, folder: Path) -> dict[str, Any]:
    """Trains 3 steps, saves, trains 3 more; then goes on from what one process had saved."""
    step = step_of(optimizer=CLIPPED, mesh=mesh)
    state, _ = trained(step, params_of(), batches(3))
    fp.checkpoint.save(folder / "from-two", step.state_dict(state), mesh)
    kept = [batch_of(seed=seed) for seed in range(3, 6)]
    losses = []
    for batch in kept:
        state, metrics = step(state, batch)
        losses.append(metrics["loss"])
    state = step.init(params_of(7), batch_of())
    state = step.load(state, fp.checkpoint.load(folder / "from-one", step.state_dict(state), mesh))
    again = []
    for batch in kept:
        state, metrics = step(state, batch)
        again.append(metrics["loss"])
    return {"on": losses, "from_one": again, "steps": state.step, "params": step.gather(state)[0]}


def evaluation(mesh: Any) -> dict[str, Any]:
    """Before training, between steps, on other sizes; and leaves read where they are not."""
    step = step_of(mesh=mesh)
    state = step.init(params_of(), batch_of())
    evaluate = fp.eval_step(weighted, like=step, num_microbatches=2)
    found = [dict(evaluate(state, batch_of(rows, 5))) for rows in (8, 4, 8)]
    state, metrics = step(state, batch_of())
    found.append(dict(evaluate(state, batch_of(seed=5))))
    wrong = fp.eval_step(lambda p, b: (b["y"] @ p["rest"][1][0].t() @ p["first"]["weight"].t()).mean(), like=step)
    return {"metrics": found, "loss": metrics["loss"], "wrong": raised(wrong, state, batch_of())}


def gradients(mesh: Any) -> list[Any]:
    function = fp.value_and_grad(loss_fn, mesh=mesh, num_microbatches=4, backend="interpret")
    return [function(params_of(seed), share(batch_of(seed=seed), mesh)) for seed in range(2)]


def mistakes(mesh: Any) -> dict[str, Any]:
    """Errors that every rank finds; the same step goes on afterwards."""
    rank = mesh.pp_rank
    step = step_of(mesh=mesh)
    state = step.init(params_of(), batch_of())
    found = {
        "stages": raised(step_of(mesh=mesh, stages=1).init, params_of(), batch_of()),
        "divide": raised(step, state, batch_of(6)),
        "dtype": raised(step, state, batch_of(dtype=torch.float64)),
        "scalar": raised(step_of(lambda p, b: b["x"] @ p, mesh=mesh).init, torch.ones(5, 1), batch_of()),
        "sizes": raised(step, state, batch_of(8 + 8 * rank)),
        "plans": raised(_first_step, step_of(mesh=mesh, schedule="gpipe" if rank else "1f1b")),
        "functions": raised(_first_step, step_of((lambda p, b: 2 * loss_fn(p, b)) if rank else loss_fn, mesh=mesh)),
        "optimizers": raised(_first_step, step_of(optimizer=fp.optim.adamw(1e-2) if rank else MOMENTUM, mesh=mesh)),
        "alone": raised(step_of),
    }
    state, metrics = step(state, batch_of())
    return found | {"loss": metrics["loss"]}


def _first_step(step: Any) -> None:
    step(step.init(params_of(), batch_of()), batch_of())


def two_ranks(folder: Path) -> dict[str, Any]:
    """Everything between two ranks in one pair of processes, where a warning is an error."""
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    mesh, replicas = fp.mesh(pp=2, device="cpu", timeout=60), fp.mesh(pp=1, dp=2, device="cpu", timeout=60)
    return {
        "sgd": training(mesh, MOMENTUM),
        "gpipe": training(mesh, MOMENTUM, schedule="gpipe"),
        "adamw": training(mesh, fp.optim.adamw(1e-2)),
        "weighted": training(mesh, CLIPPED, 5, weighted),
        "tied": tied_training(mesh),
        "buffers": buffers_after(mesh, "first"),
        "checkpoints": checkpoints(mesh, folder),
        "evaluation": evaluation(mesh),
        "gradients": gradients(mesh),
        "mistakes": mistakes(mesh),
        "replicas": training(replicas, CLIPPED, 5, weighted, num_microbatches=2, stages=1),
    }


def two_compiled() -> dict[str, Any]:
    """20 steps of three schedules, each compiled."""
    torch.set_num_threads(1)
    mesh = fp.mesh(pp=2, device="cpu", timeout=300)
    return {name: training(mesh, MOMENTUM, backend="step", schedule=name) for name in ("gpipe", "1f1b", "zb-h1")}


def two_compiled_replicas() -> dict[str, Any]:
    """Sums over the ranks in compiled code: gradients and buffers over replicas, weights and norms over stages."""
    torch.set_num_threads(1)
    mesh, replicas = fp.mesh(pp=2, device="cpu", timeout=300), fp.mesh(pp=1, dp=2, device="cpu", timeout=300)
    return {
        "weighted": training(mesh, CLIPPED, 5, weighted, backend="step"),
        "replicas": training(replicas, CLIPPED, 5, weighted, num_microbatches=2, stages=1, backend="step"),
        "tied": tied_training(mesh, backend="step"),
        "buffers": buffers_after(replicas, "mean", backend="step", stages=1),
        "buffers_interpreted": buffers_after(replicas, "mean", stages=1),
    }


def four_ranks(folder: Path) -> dict[str, Any]:
    """Two replicas of two ranks."""
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    mesh = fp.mesh(pp=2, dp=2, device="cpu", timeout=120)
    return {
        "sgd": training(mesh, MOMENTUM, 5, num_microbatches=2),
        "weighted": training(mesh, CLIPPED, 5, weighted, num_microbatches=2),
        "tied": tied_training(mesh),
        "first": buffers_after(mesh, "first", folder),
        "mean": buffers_after(mesh, "mean"),
        "gradients": gradients(mesh),
        "sizes": raised(_other_sizes, mesh),
    }


def _other_sizes(mesh: Any) -> None:
    """Replicas with batches of different sizes."""
    step = step_of(mesh=mesh)
    batch = batch_of(8 + 8 * mesh.dp_rank)
    step(step.init(params_of(), batch), batch)
