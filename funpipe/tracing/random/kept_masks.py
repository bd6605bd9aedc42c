"""The backward of dropout with a mask of bytes."""

from typing import Any

import torch
from torch import Tensor


def _backward(grad: Tensor, mask: Tensor, scale: float) -> Tensor:
    if mask.dtype != torch.uint8:
        return NotImplemented
    return grad * (mask.to(grad.dtype) * scale)


KEPT_MASKS: dict[Any, Any] = {torch.ops.aten.native_dropout_backward.default: _backward}
"""For the tracer: what reads such a mask, and what to trace in its place."""
