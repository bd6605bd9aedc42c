"""Adam, with weight decay as part of the gradient."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from funpipe.optim.base import Entries, Optimizer, describe, zero_slots
from funpipe.optim.checks import check_at_least_zero, check_between
from funpipe.optim.elementwise import update_entries
from funpipe.optim.learning_rates import as_learning_rate, given_rate
from funpipe.optim.settings import Settings

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
    rate = as_learning_rate("adam", lr)
    rule = partial(_rule, betas=betas, eps=eps, weight_decay=weight_decay)
    settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
    return Optimizer(
        init=lambda params: zero_slots(params, *SLOTS),
        update=partial(update_entries, lambda label: rule, SLOTS),
        scalars=lambda step: adam_scalars(step, rate(step), betas),
        name=describe("adam", **settings),
        scalars_at=lambda step, lr: adam_scalars(step, given_rate("adam", lr), betas),
        settings=Settings.of("adam", **settings),
    )


def adam_scalars(step: Tensor, lr: Tensor, betas: tuple[float, float]) -> Entries:
    """`step_size` is lr / (1 - β₁ᵗ), `correction` is √(1 - β₂ᵗ)."""
    t = step.to(torch.float64) + 1
    return {"step_size": lr / (1 - betas[0] ** t), "correction": (1 - betas[1] ** t).sqrt()}


def adam_rule(
    p: Tensor, g: Tensor, m: Tensor, v: Tensor, c: Entries, *, betas: tuple[float, float], eps: float
) -> tuple[Tensor, ...]:
    """One update of one entry."""
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * (g * g)
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
    g = g + weight_decay * p if weight_decay else g
    return adam_rule(p, g, m, v, c, betas=betas, eps=eps)


def check_settings(optimizer: str, betas: tuple[float, float], eps: float, weight_decay: float) -> None:
    """Raises unless the settings that Adam and AdamW share are in their ranges."""
    for index, (beta, example) in enumerate(zip(betas, (0.9, 0.999), strict=True)):
        check_between(f"{optimizer}: betas[{index}]", beta, 0, 1, f"pass a number such as {example}")
    check_at_least_zero(f"{optimizer}: eps", eps, 1e-8)
    check_at_least_zero(f"{optimizer}: weight_decay", weight_decay, 0.01)
