"""Hooks of parameters, which are given the gradient of a whole step."""

from collections.abc import Mapping

import torch
from torch import Tensor

from funpipe.interop.pipelining.errors import PipeNotImplementedError


def has_hooks(param: Tensor) -> bool:
    """Whether `register_hook` or `register_post_accumulate_grad_hook` was called on a parameter.

    Args:
        param: the parameter.

    Example:
        >>> w = torch.ones(1, requires_grad=True)
        >>> handle = w.register_hook(lambda gradient: 2 * gradient)
        >>> has_hooks(w), has_hooks(torch.ones(1))
        (True, False)
    """
    return bool(param._backward_hooks) or bool(getattr(param, "_post_accumulate_grad_hooks", None))


def accumulate(param: Tensor, gradient: Tensor) -> None:
    """Adds a gradient to `.grad` as a backward does, through the hooks.

    Args:
        param: the parameter.
        gradient: of the whole step.
    """
    torch.autograd.backward((param,), (gradient,))


def require_none(tensors: Mapping[str, Tensor]) -> None:
    """Raises where a parameter has hooks that nothing would call: the step updates parameters itself.

    Args:
        tensors: by stage and name.

    Raises:
        PipeNotImplementedError: one has.
    """
    found = next((name for name, tensor in tensors.items() if has_hooks(tensor)), None)
    if found is not None:
        stage, _, name = found.partition(".")
        raise PipeNotImplementedError(
            f"optimizer= with a hook on the parameter {name!r} of stage {stage} is not supported, since its gradient "
            "never is a tensor of its own: remove the hook, or leave optimizer= away and step an optimizer of "
            "torch.optim after step()."
        )
