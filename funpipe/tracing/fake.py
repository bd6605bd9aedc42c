"""Stand-ins without memory for the leaves of a trace."""

import torch

from funpipe._typing import TensorType


def fake_like(kind: TensorType, mode: object) -> torch.Tensor:
    """A tensor of the given type that has no memory; `mode` is an open fake mode."""
    with mode:  # type: ignore[attr-defined]
        return torch.empty_strided(kind.shape, kind.stride, dtype=kind.dtype, device=kind.device)


def contiguous(kind: TensorType) -> TensorType:
    """The same type, laid out in rows."""
    strides, step = [], 1
    for size in reversed(kind.shape):
        strides.append(step)
        step *= max(size, 1)
    return TensorType(kind.shape, tuple(reversed(strides)), kind.dtype, kind.device)
