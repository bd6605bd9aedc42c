"""A model whose loss reads values of the batch in Python, and what each rank of the launched tests does with it."""

from typing import Any

import torch
from torch import Tensor

import funpipe as fp
from tests.api.models import batch_of, eager, params_of, step_of
from tests.api.ranks import raised


def branching(params: Any, batch: dict[str, Tensor]) -> Tensor:
    """Two branches, one of which branches again; all use the same parameters."""
    h = torch.tanh(batch["x"] @ params["first"]["weight"] + params["first"]["bias"])
    if (batch["kind"] == 2).any().item():
        h = h * 2
        if batch["kind"].max() > 5:
            h = h.relu()
    h = torch.tanh(fp.mark_stage_end(h) @ params["rest"][0])
    return (h @ params["rest"][1][0] - batch["y"]).square().mean()


def kinds(*kinds: int, seed: int = 0, rows: int = 8) -> dict[str, Tensor]:
    """A batch of equal runs of rows of some kinds; one kind in all rows makes all microbatches agree."""
    return batch_of(rows, seed) | {"kind": torch.tensor(kinds).repeat_interleave(rows // len(kinds))}


SEQUENCE = (0, 2, 0, 2, 1, 2)


def batches() -> list[dict[str, Tensor]]:
    return [kinds(kind, seed=i) for i, kind in enumerate(SEQUENCE)]


def wanted() -> tuple[Any, list[Tensor]]:
    return eager(branching, params_of(), batches(), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9))


def flips(mesh: Any) -> dict[str, Any]:
    """A value that another batch changes: both ranks trace again, and come back to what they had."""
    step = step_of(branching, mesh=mesh)
    state, losses = step.init(params_of(), kinds(0)), []
    for batch in batches():
        state, metrics = step(state, batch)
        losses.append(metrics["loss"])
    evaluate = fp.eval_step(branching, like=step)
    found = [evaluate(state, kinds(kind, seed=9))["loss"] for kind in (2, 0)]
    steps = len(step._engine.compiled)
    return {"losses": losses, "params": step.gather(state)[0], "steps": steps, "evaluated": found}


def mistakes(mesh: Any, **options: Any) -> dict[str, Any]:
    """Each is an error on both ranks, and the step after them runs."""
    step = step_of(branching, mesh=mesh, **options)
    other = mesh.pp_rank + mesh.dp_rank
    found = {"init": raised(step.init, params_of(), kinds(0 if other else 2))}
    state = step.init(params_of(), kinds(0))
    found["ranks"] = raised(step, state, kinds(2 if other else 0))
    found["sizes"] = raised(step, state, kinds(0, rows=16 if other else 8))
    found["both"] = raised(step, state, kinds(2 if other else 0, rows=16 if other else 8))
    found["microbatches"] = raised(step, state, kinds(0, 2))
    found["one"] = raised(step, state, kinds(0, 2) if other else kinds(0))
    found["new"] = raised(step, state, kinds(7 if other else 2, rows=16))
    found["flag"] = raised(step, state, kinds(0) | {"kind": 3})
    return found | {"loss": step(state, kinds(0))[1]["loss"]}


def constants(mesh: Any) -> list[Tensor]:
    """Numbers in the batch: one step for each."""

    def loss(params: Any, batch: dict[str, Any]) -> Tensor:
        return branching(params, batch) * batch["scale"]

    step = step_of(loss, mesh=mesh)
    state, losses = step.init(params_of(), kinds(0) | {"scale": 1.0}), []
    for scale in (1.0, 2.0, 1.0):
        state, metrics = step(state, kinds(0) | {"scale": scale})
        losses.append(metrics["loss"])
    return [*losses, raised(step, state, kinds(0) | {"scale": 3.0 + mesh.pp_rank})]  # type: ignore[list-item]


def two_ranks() -> dict[str, Any]:
    """Everything that two processes check, on two stages and on two replicas."""
    stages, replicas = fp.mesh(pp=2, dp=1, device="cpu"), fp.mesh(pp=1, dp=2, device="cpu")
    found = {"flips": flips(stages), "mistakes": mistakes(stages), "constants": constants(stages)}
    return found | {"replicas": mistakes(replicas, stages=1)}
