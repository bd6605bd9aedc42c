"""The values of a program that hold an optimizer's slots of a bucket.

slot.PATH.BUCKET           flat, of the bucket's layout: the update is elementwise
slot.PATH:LEAF.BUCKET      one leaf's, of any shape: the update is of whole leaves
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from funpipe._typing import TensorType
from funpipe.functional.tree import named_leaves
from funpipe.optim import Optimizer
from funpipe.optim.members import initial_state, member
from funpipe.optim.slots import flat_slots, slot_paths
from funpipe.programs.layout import Bucket, Slot


def slots_of(optimizer: Optimizer, bucket: Bucket, flat: Tensor) -> dict[str, Tensor]:
    """The first slots of a bucket.

    Args:
        optimizer: the one of the step.
        bucket: the bucket.
        flat: its parameters, maybe on the meta device.

    Returns:
        By `PATH` or `PATH:LEAF`, in the order in which an `Update` names them.
    """
    if bucket.scope == "element":
        state = initial_state(optimizer, bucket.label, {bucket.name: flat})
        return {name.removesuffix(f".{bucket.name}"): slot for name, slot in named_leaves(state)[0].items()}
    own = member(optimizer, bucket.label)[0]
    leaves = {slot.leaf: slot.view(flat) for slot in bucket.slots}
    paths = slot_paths(own)
    names = [f"{'.'.join(path)}:{leaf}" for path in paths for leaf in leaves]
    return dict(zip(names, flat_slots(paths, own.init(leaves), list(leaves)), strict=True))


def slot_types(optimizer: Optimizer, bucket: Bucket, device: str) -> dict[str, TensorType]:
    """The types of a bucket's slots.

    Args:
        optimizer: the one of the step.
        bucket: the bucket.
        device: where it lies.

    Returns:
        By `PATH` or `PATH:LEAF`.
    """
    found = slots_of(optimizer, bucket, torch.empty(bucket.size, dtype=bucket.dtype, device="meta"))
    kind = bucket.type(device)
    if bucket.scope == "element":
        return dict.fromkeys(found, kind)
    return {n: TensorType(tuple(t.shape), t.contiguous().stride(), t.dtype, device) for n, t in found.items()}


def parts_of(bucket: Bucket) -> list[tuple[Slot, ...]]:
    """The leaves that are updated together: each alone, or, where an update reads all leaves, all."""
    return [bucket.slots] if bucket.scope == "tree" else [(slot,) for slot in bucket.slots]


def named_for(slots: tuple[str, ...], leaves: tuple[Slot, ...]) -> list[str]:
    """The slots of some leaves, slot by slot and in each leaf by leaf.

    Args:
        slots: of all leaves, `PATH:LEAF`.
        leaves: the leaves.
    """
    paths = dict.fromkeys(name.partition(":")[0] for name in slots)
    return [f"{path}:{slot.leaf}" for path in paths for slot in leaves]


def by_leaf(bucket: Bucket, name: str, value: Tensor) -> Iterator[tuple[str, str, Tensor]]:
    """What a slot's value holds: path, leaf and the leaf's slot.

    Args:
        bucket: whose slot it is.
        name: `PATH` or `PATH:LEAF`.
        value: the value.
    """
    path, _, leaf = name.partition(":")
    if bucket.scope != "element":
        yield path, leaf, value
    else:
        yield from ((path, slot.leaf, slot.view(value)) for slot in bucket.slots)


def split_name(value: str) -> tuple[str, str]:
    """A value `slot.NAME.BUCKET` as `NAME` and `BUCKET`.

    Example:
        >>> split_name("slot.1.m:layers.0.weight.s0_float32")
        ('1.m:layers.0.weight', 's0_float32')
    """
    name, _, bucket = value.removeprefix("slot.").rpartition(".")
    return name, bucket


def of_leaves(named: Mapping[str, Tensor], bucket: Bucket) -> Tensor:
    """The flat buffer of a bucket's leaves, zeros between them; pure.

    Args:
        named: the leaves.
        bucket: the bucket.
    """
    parts: list[Tensor] = []
    end = 0
    for slot in bucket.slots:
        leaf = named[slot.leaf]
        parts += [leaf.new_zeros(slot.offset - end)] * (slot.offset > end)
        parts.append(leaf.reshape(-1))
        end = slot.offset + slot.numel
    return torch.cat([*parts, *[parts[0].new_zeros(bucket.size - end)] * (bucket.size > end)])
