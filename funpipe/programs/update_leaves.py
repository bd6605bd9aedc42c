"""The update of leaves that are not updated element by element: each whole, in its own shape."""

from collections.abc import Hashable, Mapping, Sequence

from torch import Tensor

from funpipe.optim import Context, Optimizer
from funpipe.optim.members import member
from funpipe.optim.slots import flat_slots, nested_slots, slot_paths, structure
from funpipe.programs.layout import Bucket
from funpipe.programs.slot_values import named_for, of_leaves, parts_of


def updated_part(
    optimizer: Optimizer,
    label: Hashable,
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    slots: Sequence[Tensor],
    context: Context,
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Some leaves after an update, and their slots.

    Args:
        optimizer: the one of the step.
        label: of these leaves.
        params: the leaves by name.
        grads: their gradients.
        slots: slot by slot, in each leaf by leaf.
        context: of the update.
    """
    own = member(optimizer, label)[0]
    state = nested_slots(structure(own), slots, list(params))
    new, state = optimizer.update(dict(grads), state, dict(params), context)
    return new, flat_slots(slot_paths(own), state, list(params))


def updated_bucket(
    optimizer: Optimizer,
    bucket: Bucket,
    grad: Tensor,
    param: Tensor,
    slots: Mapping[str, Tensor],
    context: Context,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The parameters and slots of a bucket after an update of its leaves.

    Args:
        optimizer: the one of the step.
        bucket: whose `scope` is `"leaf"` or `"tree"`.
        grad: flat, the gradient.
        param: flat, the parameters.
        slots: by `PATH:LEAF`.
        context: of the update.
    """
    leaves: dict[str, Tensor] = {}
    new = dict(slots)
    for part in parts_of(bucket):
        names = named_for(tuple(slots), part)
        params, grads = ({slot.leaf: slot.view(flat) for slot in part} for flat in (param, grad))
        changed, values = updated_part(optimizer, bucket.label, params, grads, [slots[n] for n in names], context)
        leaves |= changed
        new |= zip(names, values, strict=True)
    return of_leaves(leaves, bucket), new


def bucket_before_norm(
    optimizer: Optimizer,
    bucket: Bucket,
    grad: Tensor,
    param: Tensor,
    slots: Mapping[str, Tensor],
    context: Context,
) -> Tensor:
    """The flat gradient whose norm the optimizer reads; the arguments are those of `updated_bucket`."""
    if optimizer.before_norm is None:
        return grad
    kind = structure(member(optimizer, bucket.label)[0])
    leaves: dict[str, Tensor] = {}
    for part in parts_of(bucket):
        names = [slot.leaf for slot in part]
        params, grads = ({slot.leaf: slot.view(flat) for slot in part} for flat in (param, grad))
        state = nested_slots(kind, [slots[n] for n in named_for(tuple(slots), part)], names)
        leaves |= optimizer.before_norm(grads, state, params, context)
    return of_leaves(leaves, bucket)
