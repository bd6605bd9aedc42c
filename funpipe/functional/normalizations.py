"""Normalizations written out, so that a derivative in forward mode has a derivative in reverse mode.

Torch's forward-mode rules of layer and batch normalization read the saved mean and deviation, and call them constants
when they are differentiated themselves: the gradient of a derivative along a direction is wrong, without a word.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_ATEN: Any = torch.ops.aten


class WrittenOut(TorchFunctionMode):
    """While open, layer, batch and instance normalizations are elementary operations and means.

    Example:
        >>> x, v = torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[1.0, 0.0, 0.0]])
        >>> with WrittenOut():
        ...     out = functional.layer_norm(x, (3,))
        >>> torch.allclose(out, functional.layer_norm(x, (3,)))
        True
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found: Any = _TABLE.get(func, func)
        return found(*args, **(kwargs or {}))


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    return _normalized(input, range(-len(normalized_shape), 0), weight, bias, eps)


def _native_layer_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """With the mean and the inverse deviation, which torch does not differentiate."""
    over = tuple(range(-len(normalized_shape), 0))
    mean = input.mean(over, keepdim=True)
    inverse = ((input - mean).square().mean(over, keepdim=True) + eps).rsqrt()
    return _layer_norm(input, normalized_shape, weight, bias, eps), mean.detach(), inverse.detach()


def _batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Tensor:
    """One in training; otherwise its statistics are constants indeed."""
    if not training:
        return torch.batch_norm(x, weight, bias, running_mean, running_var, False, momentum, eps, False)
    if running_mean is not None:  # what it keeps, to the bit
        torch.batch_norm(x.detach(), None, None, running_mean, running_var, True, momentum, eps, False)
    return _normalized(x, [0, *range(2, x.ndim)], _along_channels(weight, x), _along_channels(bias, x), eps)


def _batch_norm_by_name(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    return _batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps)


def _instance_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Tensor:
    if not use_input_stats:
        return torch.instance_norm(x, weight, bias, running_mean, running_var, False, momentum, eps, False)
    if running_mean is not None:
        torch.instance_norm(x.detach(), None, None, running_mean, running_var, True, momentum, eps, False)
    return _normalized(x, range(2, x.ndim), _along_channels(weight, x), _along_channels(bias, x), eps)


def _instance_norm_by_name(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    return _instance_norm(input, weight, bias, running_mean, running_var, use_input_stats, momentum, eps)


def _normalized(x: Tensor, dims: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """In float32 at least, as torch's kernels compute."""
    wide, over = x.to(torch.promote_types(x.dtype, torch.float32)), tuple(dims)
    centered = wide - wide.mean(over, keepdim=True)
    out = centered * (centered.square().mean(over, keepdim=True) + eps).rsqrt()
    out = out if weight is None else out * weight
    return (out if bias is None else out + bias).to(x.dtype)


def _along_channels(leaf: Tensor | None, x: Tensor) -> Tensor | None:
    return None if leaf is None else leaf.reshape(-1, *[1] * (x.ndim - 2))


_TABLE: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys((torch.layer_norm, functional.layer_norm, _ATEN.layer_norm.default), _layer_norm),
    torch.native_layer_norm: _native_layer_norm,
    torch.batch_norm: _batch_norm,
    _ATEN.batch_norm.default: _batch_norm,
    functional.batch_norm: _batch_norm_by_name,
    torch.instance_norm: _instance_norm,
    _ATEN.instance_norm.default: _instance_norm,
    functional.instance_norm: _instance_norm_by_name,
}
"""By function of torch; the arguments are its own."""
