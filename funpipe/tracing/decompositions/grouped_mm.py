"""Grouped matrix products in every dtype that the kernels take.

The tracer's stand-ins of `aten._grouped_mm` refuse everything but bfloat16, and strides that are no multiples of 16
bytes; the kernels of the CPU take both. So the tracer meets an operator that says the same, with stand-ins of its own.
"""

from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


@torch.library.custom_op("funpipe::grouped_mm", mutates_args=())
def grouped_mm(a: Tensor, b: Tensor, offsets: Tensor | None, bias: Tensor | None, dtype: torch.dtype | None) -> Tensor:
    """The product of each group of rows or columns, which end at `offsets`, with its own matrix; laid out in rows."""
    return aten._grouped_mm.default(a, b, offsets, bias, dtype).contiguous()


@grouped_mm.register_fake
def _(a: Tensor, b: Tensor, offsets: Tensor | None, bias: Tensor | None, dtype: torch.dtype | None) -> Tensor:
    groups = () if offsets is None else (offsets.shape[0],)
    shapes = {
        (2, 2): (*groups, a.shape[0], b.shape[-1]),  # the groups share the contracted dimension
        (2, 3): (a.shape[0], b.shape[-1]),
        (3, 2): (a.shape[1], b.shape[-1]),
        (3, 3): (a.shape[0], a.shape[1], b.shape[-1]),
    }
    return a.new_empty(shapes[a.ndim, b.ndim], dtype=dtype or a.dtype)


def _traced(a: Tensor, b: Tensor, offs: Any = None, bias: Any = None, out_dtype: torch.dtype | None = None) -> Tensor:
    return grouped_mm(a, b, offs, bias, out_dtype)


DECOMPOSITIONS = {aten._grouped_mm.default: _traced} if hasattr(aten, "_grouped_mm") else {}
"""For the tracer: operators, and what to trace in their place."""
