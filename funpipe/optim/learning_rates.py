"""Learning rates as functions of the step, computed by tensors: a compiled step never recompiles as the step grows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from funpipe._errors import FunpipeError, FunpipeTypeError
from funpipe.optim.checks import check_at_least_zero, check_steps


@dataclass(frozen=True)
class LearningRate:
    """A learning rate that prints: a function from the step (0-dim int64 tensor) to a 0-dim float64 tensor.

    Args:
        name: how it prints.
        at: the function.

    Example:
        >>> import torch
        >>> from funpipe.optim import LearningRate, sgd
        >>> halving = LearningRate("halving", lambda step: 0.5 ** step.to(torch.float64))
        >>> print(sgd(halving))
        sgd(lr=halving)
    """

    name: str
    at: Callable[[Tensor], Tensor]

    def __call__(self, step: Tensor) -> Tensor:
        return self.at(step)

    def __str__(self) -> str:
        return self.name


def constant(lr: float) -> LearningRate:
    """The same learning rate at each step.

    Args:
        lr: at least 0.

    Returns:
        A function from the step to a 0-dim float64 tensor.

    Raises:
        FunpipeError: `lr` is negative or not finite.

    Example:
        >>> import torch
        >>> constant(0.1)(torch.tensor(7))
        tensor(0.1000, dtype=torch.float64)
    """
    check_at_least_zero("constant: lr", lr, 1e-3)
    return LearningRate(str(lr), lambda step: torch.full_like(step, lr, dtype=torch.float64))


def linear(init: float, end: float, steps: int) -> LearningRate:
    """From `init` at step 0 straight to `end` at step `steps`, and `end` from there on.

    Args:
        init: the first learning rate, at least 0.
        end: the last one, at least 0.
        steps: how many steps it takes, at least 1.

    Returns:
        A function from the step to a 0-dim float64 tensor.

    Raises:
        FunpipeError: a rate is negative or not finite, or `steps` is below 1.

    Example:
        >>> import torch
        >>> linear(0.0, 1.0, steps=4)(torch.tensor(3))
        tensor(0.7500, dtype=torch.float64)
    """
    check_at_least_zero("linear: init", init, 1e-3)
    check_at_least_zero("linear: end", end, 0.0)
    check_steps("linear: steps", steps, least=1)
    return LearningRate(f"linear({init}, {end}, {steps})", lambda step: init + (end - init) * _progress(step, 0, steps))


def warmup_cosine(peak: float, warmup_steps: int, total_steps: int, end: float = 0.0) -> LearningRate:
    """Linear from 0 to `peak` in `warmup_steps`, then half a cosine down to `end` at `total_steps` and from there on.

    Args:
        peak: the largest learning rate, at least 0.
        warmup_steps: steps before the peak is reached; 0: the first step is at the peak.
        total_steps: steps until `end` is reached, warm-up included; more than `warmup_steps`.
        end: the last learning rate, at least 0.

    Returns:
        A function from the step to a 0-dim float64 tensor.

    Raises:
        FunpipeError: a rate is negative or not finite, or there is no step left after the warm-up.

    Example:
        >>> import torch
        >>> lr = warmup_cosine(1.0, warmup_steps=2, total_steps=6)
        >>> [round(lr(torch.tensor(step)).item(), 3) for step in range(8)]
        [0.0, 0.5, 1.0, 0.854, 0.5, 0.146, 0.0, 0.0]

    Source: I. Loshchilov and F. Hutter, SGDR (2017), equation 5, without restarts.
    """
    check_at_least_zero("warmup_cosine: peak", peak, 1e-3)
    check_at_least_zero("warmup_cosine: end", end, 0.0)
    check_steps("warmup_cosine: warmup_steps", warmup_steps, least=0)
    check_steps("warmup_cosine: total_steps", total_steps, least=1)
    if total_steps <= warmup_steps:
        raise FunpipeError(
            f"warmup_cosine: total_steps is {total_steps}, and the warm-up alone takes {warmup_steps}; "
            "total_steps counts the warm-up too: pass a larger one, or a shorter warm-up"
        )

    def at(step: Tensor) -> Tensor:
        cosine = end + (peak - end) * 0.5 * (1 + torch.cos(pi * _progress(step, warmup_steps, total_steps)))
        return torch.where(step < warmup_steps, peak * _progress(step, 0, max(warmup_steps, 1)), cosine)

    return LearningRate(f"warmup_cosine({peak}, {warmup_steps}, {total_steps}, {end})", at)


def as_learning_rate(optimizer: str, lr: float | Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A learning rate from what a user passed: a number, or a function of the step, whose result is checked."""
    if not callable(lr):
        check_at_least_zero(f"{optimizer}: lr", lr, 1e-3)
        return constant(lr)
    return lambda step: _checked(optimizer, lr(step))


def given_rate(optimizer: str, lr: object) -> Tensor:
    """A learning rate from outside an optimizer, in float64; raises unless it is a 0-dim floating-point tensor."""
    if not isinstance(lr, Tensor) or lr.dim() != 0 or not lr.is_floating_point():
        shown = type(lr).__name__ if isinstance(lr, Mapping) else repr(lr)
        raise FunpipeTypeError(
            f"{optimizer}: lr is {shown}; pass a 0-dim floating-point tensor, such as torch.tensor(0.1), or for "
            "groups one for each by its name"
        )
    return lr.to(torch.float64)


def _checked(optimizer: str, value: Tensor) -> Tensor:
    """Refuses Python numbers: they would be baked into a compiled step and stay as they were at its first."""
    if not isinstance(value, Tensor) or value.dim() != 0:
        raise FunpipeTypeError(
            f"{optimizer}: the function passed as lr returned {value!r}; "
            "return a 0-dim tensor computed from the step, such as 0.1 / (1 + step)"
        )
    return value.to(torch.float64)


def _progress(step: Tensor, start: int, stop: int) -> Tensor:
    """0 up to `start`, 1 from `stop` on, linear between."""
    return ((step.to(torch.float64) - start) / (stop - start)).clamp(0.0, 1.0)
