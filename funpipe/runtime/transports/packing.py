"""Several tensors in one run of bytes, so that a collective of many is one message.

    0          64              192
    ├─ a ─┤    ├───── b ─────┤ ├─ c ─┤
      float32      float32       int64

Each begins at a multiple of 64 bytes, which is what vector units like, and those of a dtype lie together: a sum is then
one operation for each dtype, over the gaps too, whose bytes mean nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

import torch
from torch import Tensor

ALIGNED = 64
"""Bytes."""

Form = tuple[torch.Size, torch.dtype]
"""A tensor's shape and dtype; it is packed contiguous, whatever its strides."""


@dataclass(frozen=True)
class Run:
    """The bytes of all tensors of one dtype."""

    dtype: torch.dtype
    start: int
    stop: int

    def of(self, raw: Tensor) -> Tensor:
        """A flat view of these bytes."""
        mine = raw if self.stop - self.start == raw.numel() else raw[self.start : self.stop]
        return mine.view(self.dtype)


@dataclass(frozen=True)
class Place:
    """One tensor.

    Args:
        shape, dtype: its own; it is contiguous, whatever it was.
        stride: in elements.
        start: where it begins in its dtype's run, in elements.
    """

    shape: torch.Size
    dtype: torch.dtype
    stride: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class Packing:
    """Where each tensor lies.

    Args:
        places: of the tensors, in their order.
        runs: the dtypes, in the order of their bytes.
        nbytes: of all together.
        digest: a number for the shapes and dtypes, the same in every process.
    """

    places: tuple[Place, ...]
    runs: tuple[Run, ...]
    nbytes: int
    digest: int

    def views(self, raw: Tensor) -> list[Tensor]:
        """The tensors in a run of bytes.

        Args:
            raw: flat uint8 of `nbytes`.
        """
        flat = {run.dtype: run.of(raw) for run in self.runs}
        return [_view(flat[place.dtype], place) for place in self.places]

    def put(self, tensors: Sequence[Tensor], raw: Tensor) -> None:
        """Copies tensors of these forms into a run of bytes.

        Args:
            tensors: of any strides.
            raw: flat uint8 of `nbytes`.
        """
        for view, tensor in zip(self.views(raw), tensors, strict=True):
            view.copy_(tensor.detach())


def packing(tensors: Sequence[Tensor]) -> Packing:
    """Where tensors lie when they are packed.

    Args:
        tensors: at least one; only shapes and dtypes are read.

    Example:
        >>> found = packing([torch.ones(2), torch.ones(3, dtype=torch.int64), torch.ones(1)])
        >>> [place.start for place in found.places], [run.start for run in found.runs], found.nbytes
        ([0, 0, 16], [0, 128], 152)
    """
    return packed(tuple((t.shape, t.dtype) for t in tensors))


@lru_cache(maxsize=256)
def packed(forms: tuple[Form, ...]) -> Packing:
    """The same for what is known of the tensors."""
    places: dict[int, Place] = {}
    runs: list[Run] = []
    end = 0
    for dtype in dict.fromkeys(dtype for _, dtype in forms):
        begin = end = _aligned(end)
        for n, shape in ((n, shape) for n, (shape, kind) in enumerate(forms) if kind == dtype):
            start = _aligned(end)
            places[n] = Place(shape, dtype, _strides(shape), (start - begin) // dtype.itemsize)
            end = start + shape.numel() * dtype.itemsize
        runs.append(Run(dtype, begin, end))
    return Packing(tuple(places[n] for n in range(len(forms))), tuple(runs), end, crc32(repr(forms).encode()))


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNED) * ALIGNED


def _strides(shape: torch.Size) -> tuple[int, ...]:
    """Of a contiguous tensor."""
    return torch.empty(shape, device="meta").stride()


def _view(flat: Tensor, place: Place) -> Tensor:
    return flat.as_strided(place.shape, place.stride, flat.storage_offset() + place.start)
