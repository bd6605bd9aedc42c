"""NAdam: Adam that looks ahead along its momentum."""

from collections.abc import Callable
from functools import partial
from math import log

import torch
from torch import Tensor

from funpipe.optim.adam import SLOTS, check_settings
from funpipe.optim.base import Entries, Optimizer
from funpipe.optim.by_rule import by_rule, decayed, moving
from funpipe.optim.checks import check_at_least_zero

TERMS = 60
"""Of the series of a logarithm: the last is below 1e-19 of the first."""


def nadam(
    lr: float | Callable[[Tensor], Tensor] = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum_decay: float = 4e-3,
    decoupled_weight_decay: bool = False,
) -> Optimizer:
    """NAdam, equal to `torch.optim.NAdam`.

    With g the gradient, t the number of this update, μ(t) = β₁ (1 - ½ 0.96^(tψ)) and M(t) = μ(1) ⋯ μ(t):
    m ← β₁ m + (1 - β₁) g;  v ← β₂ v + (1 - β₂) g²;  d = √(v / (1 - β₂ᵗ)) + eps;
    p ← p - lr (1 - μ(t)) / (1 - M(t)) · g / d - lr μ(t+1) / (1 - M(t+1)) · m / d.

    M is computed in closed form, in float64, where torch multiplies it up in a float32 of its state.

    Args:
        lr: learning rate, or a function from the step (0-dim int64 tensor) to it (0-dim tensor).
        betas: how much of the two moments is kept at each step, each in [0, 1).
        eps: added to the denominator, at least 0.
        weight_decay: at least 0.
        momentum_decay: ψ, at least 0.
        decoupled_weight_decay: whether decay is taken off the parameter, times lr, or is part of the gradient.

    Returns:
        An `Optimizer` whose state is `{"m": {...}, "v": {...}}`.

    Raises:
        FunpipeError: a setting is out of its range.

    Example:
        >>> import torch
        >>> from funpipe.optim import apply, nadam
        >>> params, optimizer = {"w": torch.ones(2)}, nadam(0.1)
        >>> apply(optimizer, params, {"w": torch.tensor([5.0, -0.5])}, optimizer.init(params), torch.tensor(0))[0]
        {'w': tensor([0.8944, 1.1056])}

    Source: T. Dozat, Incorporating Nesterov momentum into Adam (2016), algorithm 2.
    """
    check_settings("nadam", betas, eps, weight_decay)
    check_at_least_zero("nadam: momentum_decay", momentum_decay, 4e-3)
    decay, apart = (0.0, weight_decay) if decoupled_weight_decay else (weight_decay, 0.0)
    rule = partial(_rule, betas=betas, eps=eps, weight_decay=decay, decays=bool(apart))
    settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
    settings |= {"momentum_decay": momentum_decay, "decoupled_weight_decay": decoupled_weight_decay}
    return by_rule("nadam", rule, SLOTS, partial(_scalars, betas, momentum_decay, apart), settings)


def momentum_product(t: Tensor, beta: float, decay: float) -> Tensor:
    """M(t) = μ(1) ⋯ μ(t), from log(1 - x/2) = -Σ (x/2)ᵏ / k and the sum of a geometric series for each k.

    Args:
        t: 0-dim float64, at least 0.
        beta: β₁.
        decay: ψ.
    """
    if not decay:
        return (0.5 * beta) ** t
    k = torch.arange(1, TERMS + 1, dtype=torch.float64, device=t.device)
    rate = k * decay * log(0.96)
    geometric = torch.exp(rate) * torch.expm1(rate * t) / torch.expm1(rate)
    return beta**t * torch.exp(-(torch.exp2(-k) / k * geometric).sum())


def _scalars(betas: tuple[float, float], momentum_decay: float, decay: float, step: Tensor, lr: Tensor) -> Entries:
    t = step.to(torch.float64) + 1
    now, ahead = (betas[0] * (1 - 0.5 * 0.96 ** (at * momentum_decay)) for at in (t, t + 1))
    product = momentum_product(t, betas[0], momentum_decay)
    return {
        "of_g": lr * (1 - now) / (1 - product),
        "of_m": lr * ahead / (1 - product * ahead),
        "unbiased": 1 - betas[1] ** t,
        "kept": 1 - lr * decay,
    }


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
    decays: bool,
) -> tuple[Tensor, ...]:
    p = c["kept"] * p if decays else p
    g = decayed(g, p, weight_decay)
    m, v = moving(m, g, betas[0]), moving(v, g * g, betas[1])
    d = (v / c["unbiased"]).sqrt() + eps
    return p - c["of_g"] * (g / d) - c["of_m"] * (m / d), m, v
