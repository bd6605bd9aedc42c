"""Plain tensors and DTensors told apart."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeGuard

from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def is_dtensor(value: object) -> TypeGuard[DTensor]:
    """Whether a value is a DTensor.

    Args:
        value: Anything.

    Returns:
        False, too, before anybody has imported them.

    Example:
        >>> import torch
        >>> is_dtensor(torch.ones(1))
        False
    """
    # Not imported for the question: that takes long, and until somebody did there is none.
    return isinstance(value, getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", ()))


def to_local_if_dtensor(tensor: Any, detach: bool = False) -> Any:
    """This rank's shard of a DTensor; anything else as it is.

    Args:
        tensor: A tensor.
        detach: Whether to detach it.

    Returns:
        A plain tensor, or what was passed.

    Example:
        >>> import torch
        >>> to_local_if_dtensor(torch.ones(1, requires_grad=True), detach=True)
        tensor([1.])
    """
    local = tensor.to_local() if is_dtensor(tensor) else tensor
    return local.detach() if detach and isinstance(local, Tensor) else local
