"""The gradients a user gives with a stage's tensors, checked against these."""

import warnings
from collections.abc import Sequence

from torch import Tensor

from funpipe.interop.pipelining.errors import PipeliningMetadataError


def validate_static_arg_grad_correspondence(
    stage_index: int, args: Sequence[Tensor], grads: Sequence[Tensor | None], is_input: bool
) -> None:
    """Checks that there is a gradient for each tensor that requires one, and for no other.

    Warns where one that is required is None: that is right at the ends of the pipeline only.

    Args:
        stage_index: The stage, for messages.
        args: The tensors.
        grads: Their gradients.
        is_input: Whether they are the stage's inputs or its outputs.

    Raises:
        PipeliningMetadataError: There are more or fewer, or one for a tensor that requires none.

    Example:
        >>> import torch
        >>> validate_static_arg_grad_correspondence(0, (torch.ones(1),), (None,), is_input=True)
    """
    kind = "input" if is_input else "output"
    if len(args) != len(grads):
        raise PipeliningMetadataError(
            f"Stage {stage_index}: {kind}_grads length ({len(grads)}) does not match {kind}_args length ({len(args)}); "
            f"give one for each, None where no gradient is required."
        )
    for i, (arg, grad) in enumerate(zip(args, grads, strict=True)):
        _check(f"Stage {stage_index}: {kind}_args[{i}]", f"{kind}_grads[{i}]", arg, grad)


def _check(arg_name: str, grad_name: str, arg: Tensor, grad: Tensor | None) -> None:
    if grad is not None and not arg.requires_grad:
        raise PipeliningMetadataError(
            f"{arg_name} has requires_grad=False, but {grad_name} is not None; "
            f"pass None, or a tensor that requires a gradient."
        )
    if grad is None and arg.requires_grad:
        warnings.warn(
            f"{arg_name} has requires_grad=True, but {grad_name} is None; right at an end of the pipeline only.",
            stacklevel=3,
        )
