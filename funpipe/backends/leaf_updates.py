"""The update of whole leaves as graphs: one for each shape, which is called for every leaf of that shape.

    arguments = [v1, v9.as_strided([6, 6], [6, 1], 0), v2, v5, v6, v7]  # a leaf, its gradient, a slot, step, numbers
    update0(arguments)                                                   # overwrites leaf and slot

So neither the time to compile nor the bits of a leaf depend on how many leaves a bucket has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe import _compat
from funpipe._typing import TensorType
from funpipe.backends.blocks import SCALARS, Block, apart
from funpipe.graphs.stand_in import fake_like
from funpipe.optim import Optimizer
from funpipe.programs.instructions import Update
from funpipe.programs.layout import Bucket, Slot
from funpipe.programs.program import Programs
from funpipe.programs.skipping import unless
from funpipe.programs.slot_values import named_for
from funpipe.programs.update import context_of, norm_of
from funpipe.programs.update_leaves import updated_part


@dataclass(frozen=True)
class LeafUpdate:
    """An update of some leaves of a bucket: each alone, or all at once.

    Args:
        programs: all programs.
        update: the instruction.
        part: the leaves.
        optimizer: of the step.
        numbers: the names of the optimizer's scalars.
    """

    programs: Programs
    update: Update
    part: tuple[Slot, ...]
    optimizer: Optimizer
    numbers: tuple[str, ...]

    @property
    def bucket(self) -> Bucket:
        """The bucket of the leaves."""
        return self.programs.layout.bucket(self.update.bucket)

    @property
    def slots(self) -> list[str]:
        """The values of their slots."""
        return [f"slot.{name}.{self.bucket.name}" for name in named_for(self.update.slots, self.part)]

    @property
    def others(self) -> list[str]:
        """The values that every leaf's update reads."""
        norm = ["squares"] if self.update.needs_norm else []
        return ["step", *norm, *self.update.unless, *self.update.key, *(f"{SCALARS}{name}" for name in self.numbers)]

    @property
    def types(self) -> tuple[TensorType, ...]:
        """Of leaves, gradients, slots and others, in this order."""
        types, name = self.programs.types, self.bucket.name
        leaves = [_of_leaf(types[f"{kind}.{name}"], slot) for kind in ("bucket", "grad") for slot in self.part]
        device = types[f"bucket.{name}"].device
        return (*leaves, *(types[s] for s in self.slots), *(_other(types, n, device) for n in self.others))

    @property
    def key(self) -> object:
        """Updates of the same key are one graph; one that draws may read the names of its leaves."""
        named = self.bucket.scope == "tree" or self.optimizer.is_named
        return self.bucket.label, self.types, self.part if named else ()


def leaf_update(update: LeafUpdate) -> Block:
    """Traces an update of leaves; it overwrites leaves and slots, which are its first and third arguments.

    Args:
        update: the update.
    """
    count, names = len(update.part), update.others

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        params, grads, slots = tensors[:count], tensors[count : 2 * count], tensors[2 * count : -len(names)]
        given = dict(zip(names, tensors[-len(names) :], strict=True))
        new = _new(update, params, grads, slots, given)
        kept = {str(i): t for i, t in enumerate(tensors)}
        flags = [given[flag] for flag in update.update.unless]
        for old, value in zip((*params, *slots), apart(new, kept), strict=True):
            old.copy_(unless(flags, old, value))
        return ()

    mode = _compat.fake_mode()
    module = make_fx(run, tracing_mode="fake")(*(fake_like(kind, mode) for kind in update.types))
    module.graph.eliminate_dead_code()
    module.recompile()
    return Block(module, (), (), update.types)


def _new(
    update: LeafUpdate,
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    slots: Sequence[Tensor],
    given: dict[str, Tensor],
) -> list[Tensor]:
    """New leaves, then new slots, in the order of the old ones."""
    leaves = [slot.leaf for slot in update.part]
    scalars = {n.removeprefix(SCALARS): t for n, t in given.items() if n.startswith(SCALARS)}
    norm = norm_of(given["squares"], update.programs.leaf_order) if update.update.needs_norm else None
    context = context_of(update.optimizer, update.bucket, given["step"], norm, scalars, given.get("key"))
    named = dict(zip(leaves, params, strict=True))
    their = {leaf: grad.to(named[leaf].dtype) for leaf, grad in zip(leaves, grads, strict=True)}
    new, values = updated_part(update.optimizer, update.bucket.label, named, their, slots, context)
    return [*(new[leaf] for leaf in leaves), *values]


def _of_leaf(flat: TensorType, slot: Slot) -> TensorType:
    strides = tuple(prod(slot.shape[i + 1 :]) for i in range(len(slot.shape)))
    return TensorType(slot.shape, strides, flat.dtype, flat.device)


def _other(types: dict[str, TensorType], name: str, device: str) -> TensorType:
    """Numbers lie beside what they update."""
    if name != "step" and not name.startswith(SCALARS):
        return types[name]
    return TensorType((), (), torch.int64 if name == "step" else torch.float64, device)
