"""RAdam: Adam whose first steps, while the second moment is not yet known well, are plain momentum."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from funpipe.optim.adam import SLOTS, check_settings
from funpipe.optim.base import Entries, Optimizer
from funpipe.optim.by_rule import by_rule, decayed, moving


def radam(
    lr: float | Callable[[Tensor], Tensor] = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
) -> Optimizer:
    """RAdam, equal to `torch.optim.RAdam`.

    With g the gradient, t the number of this update, ρ∞ = 2 / (1 - β₂) - 1 and ρ = ρ∞ - 2t β₂ᵗ / (1 - β₂ᵗ):
    m ← β₁ m + (1 - β₁) g;  v ← β₂ v + (1 - β₂) g²;  m̂ = m / (1 - β₁ᵗ);
    p ← p - lr m̂ r √(1 - β₂ᵗ) / (√v + eps) with r = √((ρ - 4)(ρ - 2) ρ∞ / ((ρ∞ - 4)(ρ∞ - 2) ρ)) if ρ > 5,
    else p ← p - lr m̂.

    Args:
        lr: learning rate, or a function from the step (0-dim int64 tensor) to it (0-dim tensor).
        betas: how much of the two moments is kept at each step, each in [0, 1).
        eps: added to the denominator, at least 0.
        weight_decay: at least 0.
        decoupled_weight_decay: whether decay is taken off the parameter, times lr, or is part of the gradient.

    Returns:
        An `Optimizer` whose state is `{"m": {...}, "v": {...}}`.

    Raises:
        FunpipeError: a setting is out of its range.

    Example:
        >>> import torch
        >>> from funpipe.optim import apply, radam
        >>> params, optimizer = {"w": torch.ones(2)}, radam(0.1)
        >>> apply(optimizer, params, {"w": torch.tensor([5.0, -0.5])}, optimizer.init(params), torch.tensor(0))[0]
        {'w': tensor([0.5000, 1.0500])}

    Source: L. Liu et al., On the variance of the adaptive learning rate and beyond (2020), algorithm 2.
    """
    check_settings("radam", betas, eps, weight_decay)
    decay, apart = (0.0, weight_decay) if decoupled_weight_decay else (weight_decay, 0.0)
    rule = partial(_rule, betas=betas, eps=eps, weight_decay=decay, decays=bool(apart))
    settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
    settings |= {"decoupled_weight_decay": decoupled_weight_decay}
    return by_rule("radam", rule, SLOTS, partial(_scalars, betas, apart), settings)


def _scalars(betas: tuple[float, float], decay: float, step: Tensor, lr: Tensor) -> Entries:
    """`rectified` is the step's size where it is adaptive, else 0; `plain` where it is not."""
    t = step.to(torch.float64) + 1
    unbiased = 1 - betas[1] ** t
    limit = 2 / (1 - betas[1]) - 1
    length = limit - 2 * t * betas[1] ** t / unbiased
    known = length > 5
    inside = (length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length)
    size, none = lr / (1 - betas[0] ** t), torch.zeros_like(t)
    rectified = torch.where(known, size * (inside.clamp(min=0) * unbiased).sqrt(), none)
    return {"rectified": rectified, "plain": torch.where(known, none, size), "kept": 1 - lr * decay}


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
    return p - m * (c["plain"] + c["rectified"] / (v.sqrt() + eps)), m, v
