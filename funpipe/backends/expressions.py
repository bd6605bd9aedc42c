"""Values of a step as Python expressions: what its source says for slices, zeros, types and leaves."""

from math import prod

from funpipe._typing import TensorType
from funpipe.programs.layout import ALIGNMENT, Slot


def rows(source: str, kind: TensorType, dim: int, index: int) -> str:
    """One microbatch of a batch leaf, laid out in rows, where a region may assume that it is aligned.

    Args:
        source: the variable of the leaf.
        kind: the type of the microbatch.
        dim: the dimension along which the leaf is split.
        index: of the microbatch.
    """
    start = index * kind.shape[dim]
    view = f"{source}.narrow({dim}, {start}, {kind.shape[dim]})"
    aligned = start * prod(kind.shape[dim + 1 :]) * kind.dtype.itemsize % ALIGNMENT == 0
    return view if dim == 0 and aligned else f"{view}.clone(memory_format=torch.contiguous_format)"


def zeros(kind: TensorType) -> str:
    """A tensor of zeros."""
    return f"torch.zeros({list(kind.shape)}, dtype={kind.dtype}, device={kind.device!r})"


def arguments_of(kind: TensorType) -> str:
    """A type as arguments of an operator."""
    return f"{list(kind.shape)}, {list(kind.stride)}, {kind.dtype}, torch.device({kind.device!r})"


def view_of(flat: str, slot: Slot) -> str:
    """A leaf as a view of the variable of its bucket, or of its bucket's gradient."""
    strides = [prod(slot.shape[i + 1 :]) for i in range(len(slot.shape))]
    return f"{flat}.as_strided({list(slot.shape)}, {strides}, {slot.offset})"
