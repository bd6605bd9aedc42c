"""Adam, with weight decay as part of the gradient."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from funpipe.optim.base import Entries, Optimizer
from funpipe.optim.by_rule import by_rule, decayed, moving
from funpipe.optim.checks import check_at_least_zero, check_between

SLOTS = ("m", "v")
"""The first and the second moment of the gradient."""


def adam(
    lr: float | Callable[[Tensor], Tensor] = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Adam, equal to `torch.optim.Adam`.

    With g the gradient plus `weight_decay` p and t the number of this update, from 1:
    m ← β₁ m + (1 - β₁) g;  v ← β₂ v + (1 - β₂) g²;  p ← p - lr / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + eps).

    Args:
        lr: learning rate, or a function from the step (0-dim int64 tensor) to it (0-dim tensor).
        betas: how much of the two moments is kept at each step, each in [0, 1).
        eps: added to the denominator, at least 0.
        weight_decay: added to the gradient, times the parameter.

    Returns:
        An `Optimizer` whose state is `{"m": {...}, "v": {...}}`.

    Raises:
        FunpipeError: a setting is out of its range.

    Example:
        >>> import torch
        >>> from funpipe.optim import adam, apply
        >>> params, optimizer = {"w": torch.ones(2)}, adam(0.1)
        >>> grads = {"w": torch.tensor([5.0, -0.5])}
        >>> apply(optimizer, params, grads, optimizer.init(params), torch.tensor(0))[0]
        {'w': tensor([0.9000, 1.1000])}

    Source: D. Kingma and J. Ba, Adam: a method for stochastic optimization (2015), algorithm 1.
    """
    check_settings("adam", betas, eps, weight_decay)
    rule = partial(_rule, betas=betas, eps=eps, weight_decay=weight_decay)
    settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
    return by_rule("adam", rule, SLOTS, partial(adam_scalars, betas=betas), settings)


def adam_scalars(step: Tensor, lr: Tensor, betas: tuple[float, float]) -> Entries:
    """`step_size` is lr / (1 - β₁ᵗ), `correction` is √(1 - β₂ᵗ)."""
    t = step.to(torch.float64) + 1
    return {"step_size": lr / (1 - betas[0] ** t), "correction": (1 - betas[1] ** t).sqrt()}


def adam_rule(
    p: Tensor, g: Tensor, m: Tensor, v: Tensor, c: Entries, *, betas: tuple[float, float], eps: float
) -> tuple[Tensor, ...]:
    """One update of one entry."""
    m, v = moving(m, g, betas[0]), moving(v, g * g, betas[1])
    return p - c["step_size"] * m / (v.sqrt() / c["correction"] + eps), m, v


def _rule(
    p: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor,
    c: Entries,
    *,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> tuple[Tensor, ...]:
    return adam_rule(p, decayed(g, p, weight_decay), m, v, c, betas=betas, eps=eps)


def check_settings(optimizer: str, betas: tuple[float, float], eps: float, weight_decay: float) -> None:
    """Raises unless the settings that Adam and AdamW share are in their ranges."""
    for index, (beta, example) in enumerate(zip(betas, (0.9, 0.999), strict=True)):
        check_between(f"{optimizer}: betas[{index}]", beta, 0, 1, f"pass a number such as {example}")
    check_at_least_zero(f"{optimizer}: eps", eps, 1e-8)
    check_at_least_zero(f"{optimizer}: weight_decay", weight_decay, 0.01)
