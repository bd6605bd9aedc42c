"""Adadelta: steps of the size of the last steps, so that no unit is left in the learning rate."""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from funpipe.optim.base import Entries, Optimizer
from funpipe.optim.by_rule import by_rule, decayed, moving
from funpipe.optim.checks import check_at_least_zero, check_between


def adadelta(
    lr: float | Callable[[Tensor], Tensor] = 1.0,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Adadelta, equal to `torch.optim.Adadelta`.

    With g the gradient plus `weight_decay` p:  v ← ρ v + (1 - ρ) g²;  Δ = √(u + eps) / √(v + eps) · g;
    u ← ρ u + (1 - ρ) Δ²;  p ← p - lr Δ.

    Args:
        lr: learning rate, or a function from the step (0-dim int64 tensor) to it (0-dim tensor).
        rho: how much of the two mean squares is kept at each step, in [0, 1).
        eps: added under the roots, at least 0.
        weight_decay: added to the gradient, times the parameter.

    Returns:
        An `Optimizer` whose state is `{"u": {...}, "v": {...}}`.

    Raises:
        FunpipeError: a setting is out of its range.

    Example:
        >>> import torch
        >>> from funpipe.optim import adadelta, apply
        >>> params, optimizer = {"w": torch.ones(1)}, adadelta(rho=0.75, eps=0.25)
        >>> apply(optimizer, params, {"w": torch.ones(1)}, optimizer.init(params), torch.tensor(0))[0]
        {'w': tensor([0.2929])}

    Source: M. Zeiler, Adadelta: an adaptive learning rate method (2012), algorithm 1.
    """
    check_between("adadelta: rho", rho, 0, 1, "pass a number such as 0.9")
    check_at_least_zero("adadelta: eps", eps, 1e-6)
    check_at_least_zero("adadelta: weight_decay", weight_decay, 0.01)
    rule = partial(_rule, rho=rho, eps=eps, weight_decay=weight_decay)
    settings = {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay}
    return by_rule("adadelta", rule, ("u", "v"), lambda step, lr: {"lr": lr}, settings)


def _rule(
    p: Tensor, g: Tensor, u: Tensor, v: Tensor, c: Entries, *, rho: float, eps: float, weight_decay: float
) -> tuple[Tensor, ...]:
    g = decayed(g, p, weight_decay)
    v = moving(v, g * g, rho)
    delta = (u + eps).sqrt() / (v + eps).sqrt() * g
    return p - c["lr"] * delta, moving(u, delta * delta, rho), v
