"""Adamax: Adam with the largest gradient so far, which fades, in place of the root of the second moment."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from funpipe.optim.adam import check_settings
from funpipe.optim.base import Entries, Optimizer
from funpipe.optim.by_rule import by_rule, decayed, moving


def adamax(
    lr: float | Callable[[Tensor], Tensor] = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Adamax, equal to `torch.optim.Adamax`.

    With g the gradient plus `weight_decay` p and t the number of this update, from 1:
    m ← β₁ m + (1 - β₁) g;  u ← max(β₂ u, |g| + eps);  p ← p - lr / (1 - β₁ᵗ) · m / u.

    Args:
        lr: learning rate, or a function from the step (0-dim int64 tensor) to it (0-dim tensor).
        betas: how much of the moment and of the norm is kept at each step, each in [0, 1).
        eps: added to the gradient's size, at least 0.
        weight_decay: added to the gradient, times the parameter.

    Returns:
        An `Optimizer` whose state is `{"m": {...}, "u": {...}}`.

    Raises:
        FunpipeError: a setting is out of its range.

    Example:
        >>> import torch
        >>> from funpipe.optim import adamax, apply
        >>> params, optimizer = {"w": torch.ones(2)}, adamax(0.1)
        >>> apply(optimizer, params, {"w": torch.tensor([5.0, -0.5])}, optimizer.init(params), torch.tensor(0))[0]
        {'w': tensor([0.9000, 1.1000])}

    Source: D. Kingma and J. Ba, Adam: a method for stochastic optimization (2015), algorithm 2.
    """
    check_settings("adamax", betas, eps, weight_decay)

    def scalars(step: Tensor, lr: Tensor) -> Entries:
        return {"step_size": lr / (1 - betas[0] ** (step.to(torch.float64) + 1))}

    rule = partial(_rule, betas=betas, eps=eps, weight_decay=weight_decay)
    settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
    return by_rule("adamax", rule, ("m", "u"), scalars, settings)


def _rule(
    p: Tensor,
    g: Tensor,
    m: Tensor,
    u: Tensor,
    c: Entries,
    *,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> tuple[Tensor, ...]:
    g = decayed(g, p, weight_decay)
    m, u = moving(m, g, betas[0]), torch.maximum(betas[1] * u, g.abs() + eps)
    return p - c["step_size"] * (m / u), m, u
