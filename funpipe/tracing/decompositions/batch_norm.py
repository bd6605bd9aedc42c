"""Batch normalization in forms whose schemas say what they write to, and whose results have the strides that they say.

`native_batch_norm` and the forms of the GPU libraries write to the running statistics although their schemas do not say
so. And for a transposed input the tracer's stand-in for a tensor keeps its strides, where the kernels lay the result
out in rows: a view traced after it might not exist. So inputs are laid out before.
"""

from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


def _forward(
    x: Tensor, weight: Any, bias: Any, mean: Any, var: Any, training: bool, momentum: float, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    x = x.contiguous(memory_format=_format(x))
    weight, bias = _like(mean, weight), _like(mean, bias)  # the kernels take one dtype for them, whatever that of x is
    if mean is None:
        return aten._native_batch_norm_legit.no_stats(x, weight, bias, training, momentum, eps)
    if not training:
        return aten._native_batch_norm_legit_no_training.default(x, weight, bias, mean, var, momentum, eps)
    return aten._native_batch_norm_legit.default(x, weight, bias, mean, var, training, momentum, eps)


def _backward(grad: Tensor, x: Tensor, weight: Any, mean: Any, *rest: Any) -> Gradients:
    laid_out = [t.contiguous(memory_format=_format(x)) for t in (grad, x)]
    wide = _like(mean, weight)
    if laid_out[0] is grad and laid_out[1] is x and wide is weight:
        return NotImplemented  # it stays as it is
    of_x, of_weight, of_bias = aten.native_batch_norm_backward.default(*laid_out, wide, mean, *rest)
    return of_x, _like(weight, of_weight), _like(weight, of_bias)


def _like(other: Any, value: Any) -> Any:
    """A tensor in the dtype of another one, where there are both."""
    return value if value is None or other is None or value.dtype == other.dtype else value.to(other.dtype)


def _forward_of_cudnn(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """With what its backward reserves; empty, for the backward below does not read it."""
    return *_forward(x, *rest), x.new_empty((0,), dtype=torch.uint8)


def _backward_of_library(
    x: Tensor, grad: Tensor, weight: Any, mean: Any, var: Any, save_mean: Any, save_var: Any, eps: float, *_reserve: Any
) -> Gradients:
    mask = [True, True, True]
    return aten.native_batch_norm_backward.default(grad, x, weight, mean, var, save_mean, save_var, True, eps, mask)


def _format(x: Tensor) -> torch.memory_format:
    """The layout that the kernels give to their results."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    last = formats.get(x.ndim)
    return last if last is not None and x.is_contiguous(memory_format=last) else torch.contiguous_format


DECOMPOSITIONS = {
    aten.native_batch_norm.default: _forward,
    aten.native_batch_norm_backward.default: _backward,
    aten.cudnn_batch_norm.default: _forward_of_cudnn,
    aten.cudnn_batch_norm_backward.default: _backward_of_library,
    aten.miopen_batch_norm.default: _forward,
    aten.miopen_batch_norm_backward.default: _backward_of_library,
}
"""For the tracer: operators, and what to trace in their place."""
