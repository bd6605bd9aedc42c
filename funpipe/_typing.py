"""The few types that every folder shares."""

from dataclasses import dataclass
from math import prod
from typing import Any

import torch

Tree = Any
"""Any pytree (optree): nested dicts, lists, tuples, namedtuples, dataclasses registered with optree, and leaves."""


@dataclass(frozen=True)
class TensorType:
    """The type of a tensor value: shape, strides (in elements), dtype and device type."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: str = "cpu"

    @staticmethod
    def of(tensor: torch.Tensor) -> "TensorType":
        """Reads the type off a tensor (real, fake or meta)."""
        return TensorType(tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype, tensor.device.type)

    @property
    def numel(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The number of bytes of the elements, without padding between them."""
        return self.numel * self.dtype.itemsize

    def __str__(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        return f"{name}[{','.join(map(str, self.shape))}]"


def rows(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a tensor that is laid out in rows."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


@dataclass(frozen=True)
class MeshShape:
    """The shape of a mesh without devices: `pp` ranks along the pipeline, `dp` replicas of it."""

    pp: int
    dp: int = 1
