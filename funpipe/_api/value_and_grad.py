"""`value_and_grad`: a loss and its gradients through the pipeline."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from funpipe._errors import FunpipeError
from funpipe._typing import Tree
from funpipe.functional.precision import Precision, resolve_precision
from funpipe.functional.transformed import require_plain
from funpipe.functional.tree import unflatten_named
from funpipe.runtime.engine import Engine
from funpipe.runtime.exchange import gather_gradients
from funpipe.runtime.mesh import Mesh
from funpipe.runtime.setup import Setup
from funpipe.schedules import Schedule, Table
from funpipe.stages import Cutter, Remat
from funpipe.tracing.ways import Way


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
    precision: Precision | str | None = None,
    trace: Way = "auto",
    has_aux: bool = False,
) -> Callable[..., tuple[Any, Tree]]:
    """The loss and its gradients through the pipeline, as a function of the parameters.

    What it returns are new tensors without a history: no gradient flows through them, whatever the parameters require.
    Derivatives of the loss along a direction, and of the gradient, are `jvp`, `linearize` and `hvp`. To
    differentiate with respect to several trees, make one of them: `loss_fn((a, b), batch)`.

    Args:
        loss_fn: as for `train_step`.
        mesh, stages, schedule, num_microbatches, batch_spec, backend, remat: as for `train_step`.
        precision: as for `train_step`; gradients are in its `reduce`. A loss scale must be a number: nothing is kept
            from one call to the next.
        trace: as for `train_step`.
        has_aux: whether the auxiliary values of `fp.Out` are returned, too: `f(...) -> ((loss, aux), gradients)`.

    Returns:
        `f(params, batch, buffers=None, key=None) -> (loss, gradients)`: the mean loss over the global batch, and
        gradients in the structure of the parameters (zeros for frozen and unused leaves), on every rank. The key, a
        seed or what `fp.random.key` returned, is that of the random numbers.

    Raises:
        FunpipeTypeError: `f` is called inside of a transform of `torch.func`.

    Example:
        >>> import torch, funpipe as fp
        >>> f = fp.value_and_grad(lambda p, x: (x @ p["w"]).sum(), num_microbatches=2, backend="interpret")
        >>> loss, grads = f({"w": torch.ones(3, 1)}, torch.ones(4, 3))
        >>> loss, grads["w"].flatten()
        (tensor(6.), tensor([2., 2., 2.]))
    """
    # No CUDA graph: each call copies its parameters, so no two calls find them at the same addresses.
    setup = Setup(
        loss_fn,
        None,
        mesh,
        stages,
        schedule,
        num_microbatches,
        batch_spec,
        backend,
        remat=remat,
        cuda_graph=False,
        precision=_without_state(resolve_precision(precision)),
        trace=trace,
    )
    engine = Engine(setup)

    def run(params: Tree, batch: Tree, buffers: Tree = None, key: int | Tensor | None = None) -> tuple[Any, Tree]:
        require_plain((params, batch, buffers), "its arguments", "fp.value_and_grad")
        state = engine.state_for(params, batch, buffers, setup.key_of(key))
        compiled, inputs = engine.step_for(batch, values=state.values)
        found, metrics = engine.run(state, compiled, inputs)
        grads = unflatten_named(engine.first()[0].specs[0], gather_gradients(engine, found))
        if has_aux:
            return (metrics["loss"], {n: metrics[n] for n in metrics if n != "loss"}), grads
        return metrics["loss"], grads

    return run


def _without_state(precision: Precision | None) -> Precision | None:
    """A policy that keeps nothing from one call to the next."""
    if precision is not None and precision.scale is not None and precision.scale.adapts:
        raise FunpipeError(
            f"loss_scale={precision.loss_scale!r} adapts from step to step, and value_and_grad keeps no state: pass a "
            "number, as in fp.Precision(compute=torch.float16, loss_scale=1024.0), or use fp.train_step."
        )
    return precision
