"""Stand-ins without memory for the leaves of a trace, and the layout that they have: rows."""

from dataclasses import replace

import torch

from funpipe._typing import TensorType, rows


def fake_like(kind: TensorType, mode: object) -> torch.Tensor:
    """A tensor of the given type that has no memory; `mode` is an open fake mode."""
    with mode:  # type: ignore[attr-defined]
        return torch.empty_strided(kind.shape, kind.stride, dtype=kind.dtype, device=kind.device)


def contiguous(kind: TensorType) -> TensorType:
    """The same type, laid out in rows."""
    return replace(kind, stride=rows(kind.shape))


def in_rows(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor laid out in rows; `Tensor.contiguous` leaves any stride to a dimension of size 1."""
    if tensor.stride() == contiguous(TensorType.of(tensor)).stride:
        return tensor
    return tensor.contiguous().view(-1).view(tensor.shape)
