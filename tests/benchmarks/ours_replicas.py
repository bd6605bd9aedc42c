"""funpipe's steps of replicas: one traced graph with its collectives, rewritten by passes, and rotated."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

import funpipe as fp
from funpipe.passes import Pass
from tests.benchmarks.replicas import LEARNING_RATE, Perceptron
from tests.benchmarks.steps import Read

FIRST, BUCKET = 5 << 18, 4 << 20
"""Bytes: one layer, which is on its way early, and a few, which are summed and updated while they are in the cache."""


def fast() -> list[Pass]:
    """The passes that make a step fast."""
    return [
        fp.passes.bucket(FIRST, BUCKET, mode="coalesced"),
        fp.passes.update_early(),
        fp.passes.fuse_updates(),
        fp.passes.sink_waits(),
    ]


def traced(case: Perceptron, mesh: fp.Mesh) -> tuple[Any, Any, Any]:
    """The step of a case, its first state, and this rank's batch."""
    apply, params, _ = fp.functionalize(case.model())
    optimizer = fp.optim.adam(LEARNING_RATE)

    def share_of_loss(params: dict[str, Tensor], batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        loss = torch.nn.functional.mse_loss(apply(params, {}, batch["x"])[0], batch["y"])
        return loss / fp.axis_size("dp"), loss

    def step(state: Any, batch: dict[str, Tensor]) -> tuple[Any, Any]:
        grads, (_, loss) = torch.func.grad_and_value(share_of_loss, has_aux=True)(state["params"], batch)
        grads = fp.psum(grads, "dp")
        params, slots = fp.optim.apply(optimizer, state["params"], grads, state["slots"], state["step"])
        return {"params": params, "slots": slots, "step": state["step"] + 1}, {"loss": loss}

    params = {name: p.detach().clone() for name, p in params.items()}
    state = {"params": params, "slots": optimizer.init(params), "step": torch.tensor(0)}
    x, y = case.batch(dist.get_rank())
    batch = {"x": x, "y": y}
    return fp.trace_step(step, state, batch, mesh=mesh), state, batch


class Replica:
    """A step and its state.

    Args:
        case: the model and the batch.
        mesh: the processes.
    """

    def __init__(self, case: Perceptron, mesh: fp.Mesh) -> None:
        torch.set_num_threads(1)
        step, self.state, self.batch = traced(case, mesh)
        self.step = fp.compile_step(step, mesh=mesh, passes=[*fast(), fp.passes.donate()])

    def __call__(self) -> Read:
        self.state, aux = self.step(self.state, self.batch)
        return aux["loss"].item

    def parameters(self) -> dict[str, Tensor]:
        """The parameters by name, as they are."""
        return {name: p.clone() for name, p in self.state["params"].items()}


class RotatedReplica:
    """A step whose reductions and updates are put off into the next, where the parameters are first read.

    Args:
        case: the model and the batch.
        mesh: the processes.
    """

    def __init__(self, case: Perceptron, mesh: fp.Mesh) -> None:
        torch.set_num_threads(1)
        step, state, self.batch = traced(case, mesh)
        ordered = fp.passes.compose(fp.passes.weights_last(), *fast())(step)
        rotated = fp.passes.rotate(ordered, fp.passes.waits())
        self.step = fp.compile_step(rotated, mesh=mesh, passes=fp.passes.donate())
        self.state = self.step.init(state)

    def __call__(self) -> Read:
        self.state, aux = self.step.step(self.state, self.batch)
        return aux["loss"].item

    def parameters(self) -> dict[str, Tensor]:
        """The parameters by name, after what is open is done."""
        self.state = self.step.flush(self.state)
        return {name: p.clone() for name, p in self.state.state["params"].items()}
