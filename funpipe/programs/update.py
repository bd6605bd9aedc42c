"""The optimizer's update of one bucket, as a pure function of flat tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from funpipe._typing import TensorType
from funpipe.functional.tree import named_leaves, unflatten_named
from funpipe.optim import Context, Optimizer
from funpipe.optim.members import initial_state
from funpipe.optim.norm import norm_of_squares, square_sum
from funpipe.programs.layout import Bucket, Layout
from funpipe.programs.update_leaves import bucket_before_norm, updated_bucket


def updated(
    optimizer: Optimizer,
    bucket: Bucket,
    grad: Tensor,
    param: Tensor,
    slots: dict[str, Tensor],
    step: Tensor,
    norm: Tensor | None,
    scalars: dict[str, Tensor] | None = None,
    key: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The parameters and slots of a bucket after an update.

    Args:
        optimizer: the update.
        bucket: the bucket.
        grad: flat, the gradient.
        param: flat, the parameters.
        slots: the optimizer's, by path, flat; or by `PATH:LEAF` where the update is of leaves.
        step: 0-dim int64, the number of updates before this one.
        norm: 0-dim, the norm of all gradients; None if the optimizer does not read it.
        scalars: `optimizer.scalars(step)` if it is already known.
        key: of the training, if the optimizer draws.
    """
    name = bucket.name
    context = context_of(optimizer, bucket, step, norm, scalars, key)
    if bucket.scope != "element":
        return updated_bucket(optimizer, bucket, grad, param, slots, context)
    state = _state(optimizer, bucket, param, slots)
    params, state = optimizer.update({name: grad}, state, {name: param}, context)
    return params[name], {n.removesuffix(f".{name}"): t for n, t in named_leaves(state)[0].items()}


def context_of(
    optimizer: Optimizer,
    bucket: Bucket,
    step: Tensor,
    norm: Tensor | None,
    scalars: dict[str, Tensor] | None,
    key: Tensor | None = None,
) -> Context:
    """What the update of a bucket may read; the arguments are those of `updated`."""
    return Context(
        step=step,
        label=lambda entry: bucket.label,
        global_norm=lambda: _known(norm),
        scalars=optimizer.scalars(step) if scalars is None else scalars,
        base_key=key,
    )


def before_norm(
    optimizer: Optimizer,
    bucket: Bucket,
    grad: Tensor,
    param: Tensor,
    slots: dict[str, Tensor],
    step: Tensor,
    scalars: dict[str, Tensor] | None = None,
) -> Tensor:
    """The flat gradient whose norm the optimizer reads; the arguments are those of `updated`."""
    if optimizer.before_norm is None:
        return grad
    context = context_of(optimizer, bucket, step, None, scalars)
    if bucket.scope != "element":
        return bucket_before_norm(optimizer, bucket, grad, param, slots, context)
    state = _state(optimizer, bucket, param, slots)
    return optimizer.before_norm({bucket.name: grad}, state, {bucket.name: param}, context)[bucket.name]


def _state(optimizer: Optimizer, bucket: Bucket, param: Tensor, slots: dict[str, Tensor]) -> dict[str, object]:
    meta = torch.empty(param.shape, dtype=param.dtype, device="meta")
    _, spec = named_leaves(initial_state(optimizer, bucket.label, {bucket.name: meta}))
    return unflatten_named(spec, {f"{path}.{bucket.name}": slot for path, slot in slots.items()})


def _known(norm: Tensor | None) -> Tensor:
    if norm is None:
        raise ValueError("the optimizer reads the global norm, but says needs_norm=False; say needs_norm=True.")
    return norm


def squares(layout: Layout, order: Sequence[str], grads: dict[str, Tensor], kind: TensorType) -> Tensor:
    """The sum of squares of each leaf's gradient, zero where the leaf is on another rank.

    Args:
        layout: where the leaves live.
        order: all leaves with a gradient.
        grads: flat gradients of this rank's buckets, by name.
        kind: of the result, shape `(len(order),)`; its device is where a rank without gradients makes it.
    """
    device = next(iter(grads.values())).device if grads else kind.device
    found = torch.zeros(len(order), dtype=kind.dtype, device=device)
    parts = list(found.unbind())
    for i, leaf in enumerate(order):
        home = layout.home(leaf)
        if home is not None and home[0].name in grads:
            parts[i] = square_sum(home[1].view(grads[home[0].name])).to(kind.dtype)
    return torch.stack(parts) if parts else found


def norm_of(values: Tensor, order: Sequence[str]) -> Tensor:
    """The global norm from the vector of squares."""
    return norm_of_squares(dict(zip(order, values.unbind(), strict=True)))
