"""`jvp` and `linearize`: the derivative of a pipelined loss along directions in the parameters."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from funpipe._api.tangents import with_tangents
from funpipe._api.value_and_grad import value_and_grad
from funpipe._typing import Tree
from funpipe.functional.precision import Precision, resolve_precision
from funpipe.functional.tangents import directional, value_of
from funpipe.functional.transformed import require_plain
from funpipe.functional.tree import check_same, named_leaves, types_of
from funpipe.runtime.engine import Engine
from funpipe.runtime.mesh import Mesh
from funpipe.runtime.setup import Setup
from funpipe.schedules import Schedule, Table
from funpipe.stages import Cutter
from funpipe.tracing.ways import Way


def jvp(
    loss_fn: Callable[..., Any],
    *,
    mesh: Mesh | None = None,
    stages: Cutter | int | None = None,
    schedule: str | Schedule | Table = "1f1b",
    num_microbatches: int = 1,
    batch_spec: Tree = 0,
    backend: str = "step",
    precision: Precision | str | None = None,
    trace: Way = "auto",
) -> Callable[..., tuple[Tensor, Tensor]]:
    """The loss and its derivative along a direction, by one pipelined forward and no backward.

    Args:
        loss_fn: as for `train_step`; values of `fp.Out(aux=...)` are left out.
        mesh, stages, num_microbatches, batch_spec, backend, precision, trace: as for `train_step`.
        schedule: as for `train_step`; its forwards run.

    Returns:
        `f(params, tangents, batch, buffers=None, key=None) -> (loss, tangent)`, on every rank. The tangents have
        the structure, shapes and dtypes of the parameters; those of frozen leaves and integers are not read. Each
        rank keeps the tangents of its own stages.

    Raises:
        FunpipeTypeError: `f` is called inside of a transform of `torch.func`.
        TreeError: the tangents are not like the parameters.

    Example:
        >>> import torch, funpipe as fp
        >>> f = fp.jvp(lambda p, x: (x @ p["w"]).square().sum(), num_microbatches=2, backend="interpret")
        >>> f({"w": torch.ones(2)}, {"w": torch.tensor([1.0, 0.0])}, torch.ones(4, 2))
        (tensor(8.), tensor(8.))
    """
    setup = Setup(
        directional(loss_fn),
        None,
        mesh,
        stages,
        schedule,
        num_microbatches,
        batch_spec,
        backend,
        cuda_graph=False,
        precision=resolve_precision(precision),
        trace=trace,
    )
    engine = Engine(setup, differentiate=False, trains=True)

    def run(
        params: Tree, tangents: Tree, batch: Tree, buffers: Tree = None, key: int | Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        require_plain((params, tangents, batch, buffers), "its arguments", "fp.jvp")
        state = engine.state_for(with_tangents(params, tangents), batch, buffers, setup.key_of(key))
        compiled, inputs = engine.step_for(batch, values=state.values)
        metrics = engine.run(state, compiled, inputs)[1]
        return value_of(metrics), metrics["loss"]

    return run


def linearize(loss_fn: Callable[..., Any], **arguments: Any) -> Callable[..., tuple[Tensor, Callable[[Tree], Tensor]]]:
    """The loss, and its derivative as a linear function of the direction.

    The loss is one number, so its derivative is the inner product with the gradient: one forward and backward through
    the pipeline, then no pipeline at all for any number of directions.

    Args:
        loss_fn: as for `train_step`.
        **arguments: as for `value_and_grad`.

    Returns:
        `f(params, batch, buffers=None, key=None) -> (loss, f_jvp)`; `f_jvp(tangents) -> tangent` is linear, and made
        of torch's own operations, which `torch.func.vmap` may map over many directions.

    Example:
        >>> import torch, funpipe as fp
        >>> f = fp.linearize(lambda p, x: (x @ p["w"]).square().sum(), num_microbatches=2, backend="interpret")
        >>> loss, f_jvp = f({"w": torch.ones(2)}, torch.ones(4, 2))
        >>> f_jvp({"w": torch.tensor([1.0, 0.0])}), f_jvp({"w": torch.tensor([1.0, 2.0])})
        (tensor(8.), tensor(24.))
    """
    run = value_and_grad(loss_fn, **{**arguments, "has_aux": False})

    def linear(params: Tree, batch: Tree, *args: Any, **keywords: Any) -> tuple[Tensor, Callable[[Tree], Tensor]]:
        loss, grads = run(params, batch, *args, **keywords)
        named = named_leaves(grads)[0]
        floating = {n: g for n, g in named.items() if g.is_floating_point()}

        def f_jvp(tangents: Tree) -> Tensor:
            check_same(types_of(named), tangents, what="tangents")
            given = named_leaves(tangents)[0]
            return torch.stack([(g * given[n]).sum() for n, g in floating.items()]).sum()

        return loss, f_jvp

    return linear
