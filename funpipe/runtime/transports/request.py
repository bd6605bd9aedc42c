"""What a collective asks for: what each rank gives, what each gets, and how one becomes the other.

Between threads and between processes of a host the ranks' parts travel in several ways; what is made of them is said
here, once, so that all ways give the same bits: sums are added in the order of the ranks. (gloo and NCCL have orders of
their own, the same on every rank.)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal
from zlib import crc32

import torch
from torch import Tensor

from funpipe._errors import CommunicationError
from funpipe.functional.communication import Reduction
from funpipe.runtime.transports.packing import Packing, Run, packed, packing

What = Literal["all_reduce", "all_gather", "reduce_scatter"]

_COMBINE = {"sum": torch.add, "max": torch.maximum, "min": torch.minimum}
_REALS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_WHOLE = (torch.uint8, torch.int8, torch.int32, torch.int64)
_COMPLEX = {torch.complex64: torch.float32, torch.complex128: torch.float64}

_CHUNK = 2**16
"""Elements that are added at a time where there are more than two ranks: what is between two additions stays cached."""


@dataclass(frozen=True)
class Request:
    """One collective, as this rank sees it.

    Args:
        what: its name.
        given: what each rank gives.
        results: what this rank gets.
        reduce: how the ranks' values are combined; None: they are not.
        size: number of ranks.
        place: this one among them.
    """

    what: What
    given: Packing
    results: Packing
    reduce: Reduction | None
    size: int
    place: int

    @property
    def form(self) -> int:
        """A number for what is asked of all ranks: those that take part in one collective have the same."""
        return form(f"{self.what} {self.reduce}", self.given)

    def fill(self, parts: Sequence[Tensor], out: Tensor) -> None:
        """Makes the results of the ranks' parts.

        Args:
            parts: flat uint8, in the order of the ranks.
            out: flat uint8, which is overwritten and shares nothing with them.
        """
        for rank, part in enumerate(parts):
            if part.numel() != self.given.nbytes:
                raise RuntimeError(
                    f"rank {rank} of the group gave {part.numel()} bytes, rank {self.place} {self.given.nbytes}"
                )
        if self.reduce is None:
            for part, place in zip(parts, out.view(self.size, -1), strict=True):
                place.copy_(part)
            return
        if self.what == "reduce_scatter":
            parts = [part.view(self.size, -1)[self.place] for part in parts]
        for run in self.results.runs:
            numbers = real(run)
            _combine(_COMBINE[self.reduce], [numbers.of(part) for part in parts], numbers.of(out))


def all_reduce(tensors: Sequence[Tensor], reduce: Reduction, size: int, place: int) -> Request:
    """Combines each of several tensors over the ranks.

    Args:
        tensors: of this rank; those of the others have the same shapes and dtypes.
        reduce: how.
        size: number of ranks.
        place: this one among them.

    Raises:
        CommunicationError: a dtype cannot be combined so.
    """
    check(tensors, reduce)
    found = packing(tensors)
    return Request("all_reduce", found, found, reduce, size, place)


def all_gather(tensor: Tensor, size: int, place: int) -> Request:
    """Puts the ranks' tensors one after the other along their first dimension.

    Raises:
        CommunicationError: the tensor has no dimension.
    """
    rows = _rows("all_gather", tensor)
    results = packed(((torch.Size((size * rows, *tensor.shape[1:])), tensor.dtype),))
    return Request("all_gather", packing([tensor]), results, None, size, place)


def reduce_scatter(tensor: Tensor, reduce: Reduction, size: int, place: int) -> Request:
    """Combines the ranks' tensors, of which each rank gets its share of the first dimension.

    Raises:
        CommunicationError: a dtype cannot be combined so, or the first dimension cannot be shared out.
    """
    check([tensor], reduce)
    rows = _rows("reduce_scatter", tensor)
    if rows % size:
        raise CommunicationError(
            f"reduce_scatter of a tensor of shape {tuple(tensor.shape)} over {size} ranks: {rows} rows cannot be "
            f"shared out evenly; pad the first dimension to {-(-rows // size) * size}."
        )
    results = packed(((torch.Size((rows // size, *tensor.shape[1:])), tensor.dtype),))
    return Request("reduce_scatter", packing([tensor]), results, reduce, size, place)


def form(what: str, given: Packing) -> int:
    """A number for a collective, the same in every process.

    Args:
        what: its name.
        given: what each rank gives.
    """
    return crc32(what.encode(), given.digest)


def check(tensors: Sequence[Tensor], reduce: str) -> None:
    """Raises unless every transport can combine these dtypes: what gloo takes, and sums of complex numbers."""
    if reduce not in _COMBINE:
        raise CommunicationError(f"reduce is {reduce!r}; use one of {', '.join(map(repr, _COMBINE))}.")
    for tensor in tensors:
        dtype = tensor.dtype
        if dtype not in (*_REALS, *_WHOLE) and not (dtype in _COMPLEX and reduce == "sum"):
            raise CommunicationError(
                f"the {reduce} over ranks of {str(dtype).removeprefix('torch.')} is not defined; convert the tensor to "
                "int32 or float32 first."
            )


def real(run: Run) -> Run:
    """The same bytes read as real numbers."""
    return Run(_COMPLEX.get(run.dtype, run.dtype), run.start, run.stop)


def _rows(what: str, tensor: Tensor) -> int:
    if tensor.ndim == 0:
        raise CommunicationError(
            f"{what} goes along the first dimension, and the tensor has none: use x.reshape(1) before it."
        )
    return tensor.shape[0]


def _combine(combine: Callable[..., Tensor], parts: Sequence[Tensor], out: Tensor) -> None:
    if len(parts) == 2:
        combine(*parts, out=out)
        return
    for *pieces, total in zip(*(part.split(_CHUNK) for part in parts), out.split(_CHUNK), strict=True):
        first, *others = pieces
        for other in others:
            first = combine(first, other, out=total)
