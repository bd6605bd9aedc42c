"""Adagrad: the gradient over the root of the sum of all its squares."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from funpipe.optim.base import Entries, Optimizer, State, zero_slots
from funpipe.optim.by_rule import by_rule, decayed
from funpipe.optim.checks import check_at_least_zero


def adagrad(
    lr: float | Callable[[Tensor], Tensor] = 0.01,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    initial_accumulator_value: float = 0.0,
    eps: float = 1e-10,
) -> Optimizer:
    """Adagrad, equal to `torch.optim.Adagrad`.

    With g the gradient plus `weight_decay` p and t the number of this update, from 1:
    s ← s + g²;  p ← p - lr / (1 + (t - 1) lr_decay) · g / (√s + eps).

    Args:
        lr: learning rate, or a function from the step (0-dim int64 tensor) to it (0-dim tensor).
        lr_decay: at least 0.
        weight_decay: added to the gradient, times the parameter.
        initial_accumulator_value: what the sum starts from, at least 0.
        eps: added to the denominator, at least 0.

    Returns:
        An `Optimizer` whose state is `{"sum": {...}}`.

    Raises:
        FunpipeError: a setting is out of its range.

    Example:
        >>> import torch
        >>> from funpipe.optim import adagrad, apply
        >>> params, optimizer = {"w": torch.ones(2)}, adagrad(0.1)
        >>> apply(optimizer, params, {"w": torch.tensor([5.0, -0.5])}, optimizer.init(params), torch.tensor(0))[0]
        {'w': tensor([0.9000, 1.1000])}

    Source: J. Duchi et al., Adaptive subgradient methods for online learning and stochastic optimization (2011).
    """
    settings = {"lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay}
    settings |= {"initial_accumulator_value": initial_accumulator_value, "eps": eps}
    for name in ("lr_decay", "weight_decay", "initial_accumulator_value", "eps"):
        check_at_least_zero(f"adagrad: {name}", settings[name], 1e-10)  # type: ignore[arg-type]

    def init(params: Entries) -> State:
        zeros = zero_slots(params, "sum")["sum"]
        return {"sum": {n: torch.full_like(leaf, initial_accumulator_value) for n, leaf in zeros.items()}}

    def scalars(step: Tensor, lr: Tensor) -> Entries:
        return {"lr": lr / (1 + step.to(torch.float64) * lr_decay)}

    rule = partial(_rule, weight_decay=weight_decay, eps=eps)
    return by_rule("adagrad", rule, ("sum",), scalars, settings, init)


def _rule(p: Tensor, g: Tensor, s: Tensor, c: Entries, *, weight_decay: float, eps: float) -> tuple[Tensor, ...]:
    g = decayed(g, p, weight_decay)
    s = s + g * g
    return p - c["lr"] * (g / (s.sqrt() + eps)), s
