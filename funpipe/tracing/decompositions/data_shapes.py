"""Operators whose results are as large as values say, for one such size.

Which places of a mask are true is data; how many is a number that is read while tracing, a constant that every step
checks as it checks any other value that a function reads in Python. With it each of these operators has a form of a
fixed shape.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

aten = torch.ops.aten


def _number(count: Tensor) -> int:
    """Read as a function would read it; below autograd nothing takes `.item()` apart."""
    return int(aten._local_scalar_dense.default(count))


def _nonzero(x: Tensor) -> Tensor:
    return aten.nonzero_static.default(x, size=_number((x != 0).sum()))


def _masked_select(x: Tensor, mask: Tensor) -> Tensor:
    values, places = torch.broadcast_tensors(x, mask)
    return values.reshape(-1)[_nonzero(places.reshape(-1))[:, 0]]


def _index(x: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    """Masks among the indices become the places where they are true."""
    if not any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in indices):
        return NotImplemented  # it stays as it is
    found: list[Tensor | None] = []
    for index in indices:
        is_mask = index is not None and index.dtype in (torch.bool, torch.uint8)
        found += _nonzero(index).unbind(1) if is_mask else [index]  # type: ignore[arg-type]
    return aten.index.Tensor(x, found)


def _repeat_interleave(repeats: Tensor, *, output_size: int | None = None) -> Tensor:
    """Each index as many times as it says."""
    size = _number(repeats.sum()) if output_size is None else output_size
    places = torch.arange(size, device=repeats.device)
    return torch.searchsorted(repeats.cumsum(0), places, right=True).to(repeats.dtype)


DECOMPOSITIONS = {
    aten.nonzero.default: _nonzero,
    aten.masked_select.default: _masked_select,
    aten.index.Tensor: _index,
    aten.repeat_interleave.Tensor: _repeat_interleave,
}
"""For the tracer: operators, and what to trace in their place."""
