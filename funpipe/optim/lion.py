"""Lion: the sign of an interpolated momentum."""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from funpipe.optim.base import Entries, Optimizer
from funpipe.optim.by_rule import by_rule, moving
from funpipe.optim.checks import check_at_least_zero, check_between


def lion(
    lr: float | Callable[[Tensor], Tensor] = 1e-4,
    betas: tuple[float, float] = (0.9, 0.99),
    weight_decay: float = 0.0,
) -> Optimizer:
    """Lion, whose every step moves each element by lr.

    With g the gradient and λ the weight decay:
    c ← β₁ m + (1 - β₁) g;  p ← p - lr (sign(c) + λ p);  m ← β₂ m + (1 - β₂) g.

    Args:
        lr: learning rate, or a function from the step (0-dim int64 tensor) to it (0-dim tensor);
            about a tenth of Adam's.
        betas: the weights of the momentum in the step, and of its own past; each in [0, 1).
        weight_decay: the share of a parameter taken off at each step, times lr; at least 0.

    Returns:
        An `Optimizer` whose state is `{"m": {...}}`.

    Raises:
        FunpipeError: a setting is out of its range.

    Example:
        >>> import torch
        >>> from funpipe.optim import apply, lion
        >>> params, optimizer = {"w": torch.ones(2)}, lion(0.1)
        >>> apply(optimizer, params, {"w": torch.tensor([5.0, -0.5])}, optimizer.init(params), torch.tensor(0))[0]
        {'w': tensor([0.9000, 1.1000])}

    Source: X. Chen et al., Symbolic discovery of optimization algorithms (2023), algorithm 2.
    """
    for index, beta in enumerate(betas):
        check_between(f"lion: betas[{index}]", beta, 0, 1, "pass a number such as 0.9")
    check_at_least_zero("lion: weight_decay", weight_decay, 0.1)
    rule = partial(_rule, betas=betas)
    settings = {"lr": lr, "betas": betas, "weight_decay": weight_decay}
    return by_rule("lion", rule, ("m",), lambda step, lr: {"lr": lr, "kept": 1 - lr * weight_decay}, settings)


def _rule(p: Tensor, g: Tensor, m: Tensor, c: Entries, *, betas: tuple[float, float]) -> tuple[Tensor, ...]:
    return c["kept"] * p - c["lr"] * moving(m, g, betas[0]).sign(), moving(m, g, betas[1])
