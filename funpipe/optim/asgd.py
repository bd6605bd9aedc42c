"""Averaged stochastic gradient descent."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from funpipe.optim.base import Entries, Optimizer
from funpipe.optim.by_rule import by_rule, decayed
from funpipe.optim.checks import check_at_least_zero


def asgd(
    lr: float | Callable[[Tensor], Tensor] = 0.01,
    lambd: float = 1e-4,
    alpha: float = 0.75,
    t0: float = 1e6,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Averaged SGD, equal to `torch.optim.ASGD`.

    With g the gradient plus `weight_decay` p, t the number of this update, from 1, and η = lr / (1 + λ lr (t - 1))^α:
    p ← (1 - λ η) p - η g;  a ← a + (p - a) / max(1, t - 1 - t0).

    Args:
        lr: learning rate, or a function from the step (0-dim int64 tensor) to it (0-dim tensor).
        lambd: λ, at least 0.
        alpha: α, at least 0.
        t0: the step at which averaging begins.
        weight_decay: added to the gradient, times the parameter.

    Returns:
        An `Optimizer` whose state is `{"average": {...}}`.

    Raises:
        FunpipeError: a setting is out of its range.

    Example:
        >>> import torch
        >>> from funpipe.optim import apply, asgd
        >>> params, optimizer = {"w": torch.ones(2)}, asgd(0.1, lambd=0.0)
        >>> apply(optimizer, params, {"w": torch.tensor([5.0, -0.5])}, optimizer.init(params), torch.tensor(0))[0]
        {'w': tensor([0.5000, 1.0500])}

    Source: B. Polyak and A. Juditsky, Acceleration of stochastic approximation by averaging (1992).
    """
    settings = {"lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay}
    for name in ("lambd", "alpha", "t0", "weight_decay"):
        check_at_least_zero(f"asgd: {name}", settings[name], 1e-4)  # type: ignore[arg-type]

    def scalars(step: Tensor, lr: Tensor) -> Entries:
        done = step.to(torch.float64)
        eta = lr / (1 + lambd * lr * done) ** alpha
        return {"eta": eta, "kept": 1 - lambd * eta, "share": 1 / (done - t0).clamp(min=1.0)}

    return by_rule("asgd", partial(_rule, weight_decay=weight_decay), ("average",), scalars, settings)


def _rule(p: Tensor, g: Tensor, a: Tensor, c: Entries, *, weight_decay: float) -> tuple[Tensor, ...]:
    p = c["kept"] * p - c["eta"] * decayed(g, p, weight_decay)
    return p, torch.where(c["share"] == 1, p, a + c["share"] * (p - a))
