"""How the microbatches of a call are found in its arguments: worked out once for each signature of a call.

The first call of a signature splits its arguments in full generality; where every piece turns out to be a view of an
argument, or the argument itself, later calls take the same views.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from funpipe.interop.pipelining.engine.call import Call
from funpipe.interop.pipelining.engine.constants import constant
from funpipe.interop.pipelining.engine.inputs import Own
from funpipe.interop.pipelining.trees import flatten


def leaves_of(call: Call) -> tuple[list[Any], tuple[Any, ...]]:
    """The leaves of a call's arguments, and a key that is equal where they differ in the values of tensors alone.

    Args:
        call: the arguments.
    """
    parts = (call.args, call.kwargs, call.target, call.loss_kwargs, call.arg_mbs, call.kwarg_mbs, call.target_mbs)
    leaves, structure = flatten(parts)
    kinds = [
        (leaf.shape, leaf.stride(), leaf.dtype, leaf.requires_grad) if type(leaf) is Tensor else _other(leaf)
        for leaf in leaves
    ]
    return leaves, (structure, *kinds, *_overlaps(leaves))


def _overlaps(leaves: list[Any]) -> list[tuple[int, int, int]]:
    """The tensors that lie in the memory of an earlier one: which, in which one's, and how far from its start."""
    first: dict[int, tuple[int, int]] = {}
    found: list[tuple[int, int, int]] = []
    for i, leaf in enumerate(leaves):
        if type(leaf) is not Tensor or leaf.layout is not torch.strided:
            continue
        offset = int(leaf.storage_offset())
        whole, start = first.setdefault(leaf.untyped_storage().data_ptr(), (i, offset))
        if whole != i:
            found.append((i, whole, offset - start))
    return found


def _other(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return (type(leaf), leaf.shape, leaf.stride(), leaf.dtype, leaf.requires_grad)
    return constant(leaf)


@dataclass(frozen=True)
class View:
    """A piece of an argument.

    Args:
        leaf: which one, among the leaves of the call.
        size, stride, offset: of the piece, the offset counted from the argument's first element.
    """

    leaf: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    def of(self, leaves: list[Any]) -> Tensor:
        """The piece of another call's argument."""
        whole = leaves[self.leaf]
        return torch.as_strided(whole, self.size, self.stride, whole.storage_offset() + self.offset)


Recipe = Mapping[str, View]
"""For each input `batch.STAGE.NAME@MICROBATCH` the piece that it is."""


def recipe(leaves: list[Any], owns: Mapping[int, Own]) -> Recipe | None:
    """How the tensors that a rank gives lie in the arguments of its call; None if not all are views of them.

    Args:
        leaves: of the call.
        owns: what was made of it.
    """
    wholes = [(i, leaf) for i, leaf in enumerate(leaves) if type(leaf) is Tensor and leaf.layout is torch.strided]
    if any(leaf.requires_grad for _, leaf in wholes):
        return None
    found: dict[str, View] = {}
    for stage, own in owns.items():
        for i, tensors in enumerate(own.tensors):
            for name, tensor in tensors.items():
                view = next((v for k, whole in wholes if (v := _view(k, whole, tensor)) is not None), None)
                if view is None:
                    return None
                found[f"batch.{stage}.{name}@{i}"] = view
    return found


def _view(index: int, whole: Tensor, piece: Tensor) -> View | None:
    if type(piece) is not Tensor or piece.device != whole.device or piece.dtype != whole.dtype:
        return None
    if whole.untyped_storage().data_ptr() != piece.untyped_storage().data_ptr():
        return None
    offset = piece.storage_offset() - whole.storage_offset()
    return View(index, tuple(piece.shape), tuple(piece.stride()), int(offset)) if offset >= 0 else None
