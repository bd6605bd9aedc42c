"""Stand-ins without memory for values of a type."""

from typing import Any

import torch

from funpipe._typing import TensorType
from funpipe.graphs.node import Type


def fake_like(kind: TensorType, mode: object) -> torch.Tensor:
    """A tensor of the given type that has no memory; `mode` is an open fake mode."""
    with mode:  # type: ignore[attr-defined]
        return torch.empty_strided(kind.shape, kind.stride, dtype=kind.dtype, device=kind.device)


def stand_in(kind: Type, mode: object) -> Any:
    """A value of a type that has no memory: a tensor, several, or None; `mode` is a fake mode."""
    if isinstance(kind, TensorType):
        return fake_like(kind, mode)
    return tuple(stand_in(item, mode) for item in kind) if isinstance(kind, tuple) else None
