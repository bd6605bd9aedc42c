"""The layout of the leaves of a trace: rows."""

from dataclasses import replace

import torch

from funpipe._typing import TensorType, rows


def contiguous(kind: TensorType) -> TensorType:
    """The same type, laid out in rows."""
    return replace(kind, stride=rows(kind.shape))


def in_rows(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor laid out in rows; `Tensor.contiguous` leaves any stride to a dimension of size 1."""
    if tensor.stride() == contiguous(TensorType.of(tensor)).stride:
        return tensor
    return tensor.contiguous().view(-1).view(tensor.shape)
