"""Forward-mode differentiation writes "no tangent" as a tensor without memory, which a trace must not meet.

Added to a batched tangent in a stand-in without memory it changes its device to `meta`, and a second backward through
it fails. Zeros that a compiler folds compute the same.
"""

from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def _zeros(size: list[int], **options: Any) -> Tensor:
    return aten.zeros.default(size, **options)


DECOMPOSITIONS = {aten._efficientzerotensor.default: _zeros}
