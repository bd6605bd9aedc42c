"""Clipping the gradients by their global norm."""

from torch import Tensor

from funpipe._errors import FunpipeError
from funpipe.optim.base import Entries, State, Transform, describe, no_state
from funpipe.optim.context import Context
from funpipe.optim.elementwise import computing_dtype
from funpipe.optim.settings import Settings

EPSILON = 1e-6
"""Keeps the division finite; the value of `torch.nn.utils.clip_grad_norm_`."""


def clip_by_global_norm(max_norm: float) -> Transform:
    """Scales all gradients down so that their common norm is at most `max_norm`, as `clip_grad_norm_` of torch does.

    Each gradient is multiplied by min(1, max_norm / (norm + 1e-6)). The norm is summed per leaf in the order of the
    names, so it does not depend on how the model is cut. A pipeline cannot update before every rank has every
    gradient: clipping costs a reduction over all ranks at the end of each step.

    Args:
        max_norm: above 0.

    Returns:
        A `Transform`, for the front of a `chain`.

    Raises:
        FunpipeError: `max_norm` is not above 0.

    Example:
        >>> import torch
        >>> from funpipe.optim import apply, chain, clip_by_global_norm, sgd
        >>> optimizer = chain(clip_by_global_norm(1.0), sgd(1.0))
        >>> params, grads = {"w": torch.zeros(2)}, {"w": torch.tensor([3.0, 4.0])}
        >>> apply(optimizer, params, grads, optimizer.init(params), torch.tensor(0))[0]
        {'w': tensor([-0.6000, -0.8000])}

    Source: R. Pascanu et al., On the difficulty of training recurrent neural networks (2013), algorithm 1.
    """
    if isinstance(max_norm, bool) or not isinstance(max_norm, (int, float)) or not max_norm > 0:
        raise FunpipeError(f"clip_by_global_norm: max_norm is {max_norm!r}; pass a number above 0, such as 1.0")

    def clip(grads: Entries, state: State, params: Entries, ctx: Context) -> tuple[Entries, State]:
        scale = (max_norm / (ctx.global_norm() + EPSILON)).clamp(max=1.0)
        return {name: _scaled(grad, scale) for name, grad in grads.items()}, state

    return Transform(
        no_state,
        clip,
        needs_norm=True,
        name=describe("clip_by_global_norm", max_norm=max_norm),
        settings=Settings.of("clip_by_global_norm", max_norm=max_norm),
    )


def _scaled(grad: Tensor, scale: Tensor) -> Tensor:
    dtype = computing_dtype(grad)
    return (grad.to(dtype) * scale.to(grad.device, dtype)).to(grad.dtype)
