"""What each rank of the launched test of profiles runs; in a module of its own, since other processes import it."""

import warnings
from pathlib import Path
from typing import Any

import torch

import funpipe as fp
from tests.api.models import batch_of, params_of, step_of


def profiled(folder: Path) -> dict[str, Any]:
    """A step, a profiled one, and one more; rank 0 writes the file."""
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    mesh = fp.mesh(pp=2, device="cpu", timeout=120)
    step = step_of(mesh=mesh, backend="step")
    state, losses = step.init(params_of(), batch_of()), []
    state, metrics = step(state, batch_of())
    losses.append(metrics["loss"])
    state, metrics, profile = step.profile(state, batch_of(seed=1))
    losses.append(metrics["loss"])
    state, metrics = step(state, batch_of(seed=2))
    losses.append(metrics["loss"])
    if mesh.pp_rank == 0:
        profile.save(folder / "trace.json")
    return {"losses": losses, "params": step.gather(state)[0], "profile": profile}
