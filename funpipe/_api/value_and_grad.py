"""`value_and_grad`: a loss and its gradients through the pipeline."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from funpipe._typing import Tree
from funpipe.functional.tree import unflatten_named
from funpipe.runtime.engine import Engine
from funpipe.runtime.exchange import gather_gradients
from funpipe.runtime.mesh import Mesh
from funpipe.runtime.setup import Setup
from funpipe.schedules import Schedule, Table
from funpipe.stages import Cutter, Remat


def value_and_grad(
    loss_fn: Callable[..., Any],
    *,
    mesh: Mesh | None = None,
    stages: Cutter | int | None = None,
    schedule: str | Schedule | Table = "1f1b",
    num_microbatches: int = 1,
    batch_spec: Tree = 0,
    backend: str = "step",
    remat: Remat | Sequence[Remat] = "none",
) -> Callable[..., tuple[Tensor, Tree]]:
    """The loss and its gradients through the pipeline, as a function of the parameters.

    Args:
        loss_fn: as for `train_step`.
        mesh, stages, schedule, num_microbatches, batch_spec, backend, remat: as for `train_step`.

    Returns:
        `f(params, batch, buffers=None) -> (loss, gradients)`: the mean loss over the global batch, and gradients in the
        structure of the parameters (zeros for frozen and unused leaves), on every rank.

    Example:
        >>> import torch, funpipe as fp
        >>> f = fp.value_and_grad(lambda p, x: (x @ p["w"]).sum(), num_microbatches=2, backend="interpret")
        >>> loss, grads = f({"w": torch.ones(3, 1)}, torch.ones(4, 3))
        >>> loss, grads["w"].flatten()
        (tensor(6.), tensor([2., 2., 2.]))
    """
    # No CUDA graph: each call copies its parameters, so no two calls find them at the same addresses.
    setup = Setup(
        loss_fn, None, mesh, stages, schedule, num_microbatches, batch_spec, backend, remat=remat, cuda_graph=False
    )
    engine = Engine(setup)

    def run(params: Tree, batch: Tree, buffers: Tree = None) -> tuple[Tensor, Tree]:
        state = engine.state_for(params, batch, buffers)
        compiled, inputs = engine.step_for(batch)
        found, metrics = engine.run(state, compiled, inputs)
        return metrics["loss"], unflatten_named(engine.first()[0].specs[0], gather_gradients(engine, found))

    return run
