"""What users give as the tensors of a stage, as one tuple."""

from typing import Any

from torch import Tensor

from funpipe.interop.pipelining.errors import PipeliningMetadataError


def validate_and_normalize_to_tuple(args: Any, allow_none: bool = False) -> tuple[Any, ...] | None:
    """A stage's tensors as a tuple.

    Args:
        args: A tensor, a tuple or list of tensors, or None.
        allow_none: Whether None may be among them.

    Returns:
        A tuple; None for None.

    Raises:
        PipeliningMetadataError: Something is no tensor.

    Example:
        >>> import torch
        >>> validate_and_normalize_to_tuple(torch.ones(1))
        (tensor([1.]),)
    """
    if args is None:
        return None
    if isinstance(args, Tensor):
        return (args,)
    if not isinstance(args, tuple | list):
        raise PipeliningMetadataError(
            f"Stage args must be a tensor, tuple, or list of tensors, got {type(args).__name__}; pass a tuple."
        )
    for i, arg in enumerate(args):
        _check_arg(i, arg, allow_none)
    return tuple(args)


def _check_arg(i: int, arg: Any, allow_none: bool) -> None:
    if arg is None and not allow_none:
        raise PipeliningMetadataError(f"Stage arg[{i}] is None, not a tensor. Use kwargs for optional values.")
    if arg is not None and not isinstance(arg, Tensor):
        raise PipeliningMetadataError(
            f"Stage arg[{i}] has type {type(arg).__name__}, not a tensor. Use kwargs for other inputs."
        )
