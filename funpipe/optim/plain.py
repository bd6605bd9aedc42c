"""Running an optimizer by hand over named leaves: at once, or as operators of a step that is being traced."""

import torch
from torch import Tensor

from funpipe._errors import FunpipeError, FunpipeTypeError, TreeError
from funpipe.functional.objects import is_collecting
from funpipe.optim.base import Entries, Optimizer, Rate, State
from funpipe.optim.context import Context
from funpipe.optim.emit import emitted
from funpipe.optim.norm import norm_of
from funpipe.optim.rates import scalars_of


def context(
    optimizer: Optimizer,
    params: Entries,
    grads: Entries,
    step: Tensor,
    *,
    lr: Rate | None = None,
    norm: Tensor | None = None,
    key: Tensor | None = None,
) -> Context:
    """The context of an update whose entries are all of the model's leaves.

    Args:
        optimizer: whose labels and scalars are meant.
        params: every leaf by name.
        grads: every gradient by name.
        step: 0-dim int64 tensor: updates done so far.
        lr: as in `apply`.
        norm: as in `apply`.
        key: as in `apply`.

    Returns:
        A `Context` for `optimizer.update`.

    Example:
        >>> import torch
        >>> from funpipe.optim import sgd
        >>> leaves = {"w": torch.tensor([3.0, 4.0])}
        >>> context(sgd(0.1), leaves, leaves, torch.tensor(0)).global_norm()
        tensor(5.)
    """
    labels = {name: optimizer.label(name, leaf) if optimizer.label else None for name, leaf in params.items()}
    return Context(
        step=step,
        label=labels.__getitem__,
        global_norm=lambda: norm_of(grads) if norm is None else norm,
        scalars=scalars_of(optimizer, step, lr),
        base_key=key,
    )


def apply(
    optimizer: Optimizer,
    params: Entries,
    grads: Entries,
    state: State,
    step: Tensor,
    *,
    lr: Rate | None = None,
    norm: Tensor | None = None,
    key: Tensor | None = None,
) -> tuple[Entries, State]:
    """One update of named leaves; nothing is changed in place or recorded for autograd.

    In a step that `fp.trace_step` traces it becomes one operator for each group of leaves with one label, dtype and
    device, for passes to split, merge or fuse.

    Args:
        optimizer: any.
        params: leaves by name; a frozen or unused leaf is left out.
        grads: gradients with the same names and shapes.
        state: what `optimizer.init(params)` or the last update returned.
        step: 0-dim int64 tensor: updates done so far.
        lr: learning rate in place of the optimizer's own: a 0-dim tensor, say a leaf of the state, whose value may
            change from step to step; for groups also a dict of them by group, where a group left out keeps its own.
        norm: 0-dim tensor, the global norm of all gradients; None: it is that of `grads`. Pass it where `grads` are
            this rank's shards alone.
        key: of the training, for an optimizer that draws (`needs_key`); it reads it folded with the step.

    Returns:
        The new parameters and state.

    Raises:
        TreeError: the gradients do not match the parameters.
        FunpipeTypeError: the optimizer is none of funpipe, or the step is not a 0-dim integer tensor.
        FunpipeError: `lr` is given, and the optimizer takes none.

    Example:
        >>> import torch
        >>> from funpipe.optim import apply, sgd
        >>> optimizer = sgd(0.5, momentum=0.9)
        >>> params = {"w": torch.tensor([1.0, 2.0])}
        >>> params, state = apply(optimizer, params, {"w": torch.ones(2)}, optimizer.init(params), torch.tensor(0))
        >>> params["w"]
        tensor([0.5000, 1.5000])
        >>> apply(optimizer, params, params, state, torch.tensor(1), lr=torch.tensor(0.0))[0]["w"]
        tensor([0.5000, 1.5000])
    """
    _check_optimizer(optimizer)
    _check_step(step)
    _check_gradients(params, grads)
    with torch.no_grad():
        if optimizer.before_norm is not None:
            norm = _norm_before(optimizer, params, grads, state, step, lr, norm)
        if is_collecting() and optimizer.scope != "tree" and not optimizer.is_named:
            return emitted(optimizer, params, grads, state, step, lr, norm)
        ctx = context(optimizer, params, grads, step, lr=lr, norm=norm, key=key)
        return optimizer.update(grads, state, params, ctx)


def _norm_before(
    optimizer: Optimizer,
    params: Entries,
    grads: Entries,
    state: State,
    step: Tensor,
    lr: Rate | None,
    norm: Tensor | None,
) -> Tensor:
    """The norm of what an optimizer makes of the gradients first."""
    if norm is not None:
        raise FunpipeError(
            f"norm is given, and {optimizer} reads the norm of something else than the gradients; leave norm out, and "
            "pass whole gradients"
        )
    assert optimizer.before_norm is not None
    return norm_of(optimizer.before_norm(grads, state, params, context(optimizer, params, grads, step, lr=lr)))


def _check_optimizer(optimizer: object) -> None:
    if not isinstance(optimizer, Optimizer):
        raise FunpipeTypeError(
            f"the optimizer is of type {type(optimizer).__name__}; pass one of funpipe.optim, such as adamw(3e-4), or "
            "one that from_pair made"
        )


def _check_step(step: Tensor) -> None:
    if not isinstance(step, Tensor) or step.dim() != 0 or step.is_floating_point():
        raise FunpipeTypeError(f"the step is {step!r}; pass a 0-dim integer tensor, such as torch.tensor(0)")


def _check_gradients(params: Entries, grads: Entries) -> None:
    for name in params.keys() ^ grads.keys():
        have, lack = ("parameter", "gradient") if name in params else ("gradient", "parameter")
        raise TreeError(
            f"{name!r} has a {have} but no {lack}; leave a frozen or unused leaf out of both, "
            "or pass a gradient of zeros for one that is still to be decayed"
        )
    for name, param in params.items():
        if grads[name].shape != param.shape:
            raise TreeError(
                f"the gradient of {name!r} has shape {tuple(grads[name].shape)} and its parameter "
                f"{tuple(param.shape)}; pass a gradient of the parameter's shape"
            )
