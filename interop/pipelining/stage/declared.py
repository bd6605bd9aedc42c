"""What a user says of a manual stage's tensors before it ever ran."""

from collections.abc import Sequence

import torch

from funpipe.interop.pipelining.errors import PipeliningMetadataError


def described(tensors: torch.Tensor | Sequence[torch.Tensor | None] | None, what: str = "Stage arg") -> tuple | None:
    """The shapes, strides and dtypes of example tensors, as tensors without memory.

    Args:
        tensors: one tensor or several; None among them where there is none, as for the gradient of an integer.
        what: what they are called in an error.

    Returns:
        One tensor on the device "meta" for each, its `requires_grad` kept; None if nothing was said.

    Raises:
        PipeliningMetadataError: something that is no tensor.

    Example:
        >>> described(torch.ones(2, 3))
        (tensor(..., device='meta', size=(2, 3)),)
    """
    if tensors is None:
        return None
    if isinstance(tensors, torch.Tensor):
        tensors = (tensors,)
    if not isinstance(tensors, (tuple, list)):
        raise PipeliningMetadataError(
            f"{what}s must be a tensor, tuple, or list of tensors, got {type(tensors).__name__}; "
            "pass the example tensors as a tuple"
        )
    return tuple(_described(tensor, f"{what}[{index}]") for index, tensor in enumerate(tensors))


def _described(tensor: torch.Tensor | None, what: str) -> torch.Tensor | None:
    if tensor is None:
        return None
    if not isinstance(tensor, torch.Tensor):
        raise PipeliningMetadataError(
            f"{what} has type {type(tensor).__name__}. All stage args must be tensors. Use kwargs for non-tensor "
            "inputs, or leave input_args out: then a stage takes whatever it is called with"
        )
    return like(tensor)


def like(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor without memory of the same shape, strides, dtype and `requires_grad`."""
    empty = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta")
    return empty.requires_grad_(tensor.requires_grad)
