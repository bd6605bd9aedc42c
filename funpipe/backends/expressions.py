"""Values of a step as Python expressions: what its source says for slices, zeros, types and parameters."""

from math import prod

from funpipe._typing import TensorType
from funpipe.programs.layout import ALIGNMENT, Bucket, Slot


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


def parameter(flat: str, home: tuple[Bucket, Slot]) -> str:
    """A parameter as a view of the variable of its bucket."""
    slot = home[1]
    return f"{flat}.narrow(0, {slot.offset}, {slot.numel}).view({list(slot.shape)})"
