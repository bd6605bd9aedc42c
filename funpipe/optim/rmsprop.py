"""RMSprop: the gradient over the root of its mean square."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from funpipe.optim.base import Optimizer
from funpipe.optim.by_rule import by_rule, decayed, moving
from funpipe.optim.checks import check_at_least_zero, check_between


def rmsprop(
    lr: float | Callable[[Tensor], Tensor] = 0.01,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
) -> Optimizer:
    """RMSprop, equal to `torch.optim.RMSprop`.

    With g the gradient plus `weight_decay` p:  v ← α v + (1 - α) g²;  with `centered` a ← α a + (1 - α) g, else a = 0;
    u = g / (√(v - a²) + eps);  b ← momentum b + u;  p ← p - lr b.

    Args:
        lr: learning rate, or a function from the step (0-dim int64 tensor) to it (0-dim tensor).
        alpha: how much of the mean square is kept at each step, in [0, 1).
        eps: added to the denominator, at least 0.
        weight_decay: added to the gradient, times the parameter.
        momentum: at least 0; 0 keeps no momentum.
        centered: whether the mean is taken off: the variance in place of the mean square.

    Returns:
        An `Optimizer` whose state is `{"v": {...}}`, with `"mean"` if centered and `"momentum"` if there is one.

    Raises:
        FunpipeError: a setting is out of its range.

    Example:
        >>> import torch
        >>> from funpipe.optim import apply, rmsprop
        >>> params, optimizer = {"w": torch.ones(2)}, rmsprop(0.1, alpha=0.75)
        >>> apply(optimizer, params, {"w": torch.tensor([5.0, -0.5])}, optimizer.init(params), torch.tensor(0))[0]
        {'w': tensor([0.8000, 1.2000])}

    Source: T. Tieleman and G. Hinton, Neural networks for machine learning, lecture 6.5 (2012).
    """
    check_between("rmsprop: alpha", alpha, 0, 1, "pass a number such as 0.99")
    for name, value in (("eps", eps), ("weight_decay", weight_decay), ("momentum", momentum)):
        check_at_least_zero(f"rmsprop: {name}", value, 0.9 if name == "momentum" else 1e-8)
    slots = ("v", *["mean"] * centered, *["momentum"] * bool(momentum))
    rule = partial(_rule, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum, centered=centered)
    settings = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum}
    return by_rule("rmsprop", rule, slots, lambda step, lr: {"lr": lr}, settings | {"centered": centered})


def _rule(
    p: Tensor,
    g: Tensor,
    v: Tensor,
    *rest: Any,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    centered: bool,
) -> tuple[Tensor, ...]:
    *slots, c = rest
    g = decayed(g, p, weight_decay)
    v = moving(v, g * g, alpha)
    kept, variance = [v], v
    if centered:
        mean = moving(slots[0], g, alpha)
        kept, variance = [v, mean], v - mean * mean
    u = g / (variance.sqrt() + eps)
    if momentum:
        u = momentum * slots[-1] + u
        kept.append(u)
    return p - c["lr"] * u, *kept
