"""What torch keeps of each parameter that depends on the number of steps alone."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def counted(kind: type, group: Mapping[str, Any], steps: int) -> dict[str, Tensor]:
    """The counters of a parameter after some steps.

    Args:
        kind: the class of the optimizer.
        group: its settings.
        steps: at least 1.

    Example:
        >>> counted(torch.optim.Adam, {}, 3)
        {'step': tensor(3.)}
    """
    found = {"step": _scalar(float(steps))}
    if kind is torch.optim.NAdam:
        found["mu_product"] = _scalar(_momentum_product(steps, group["betas"][0], group["momentum_decay"]))
    if kind is torch.optim.ASGD:
        lr, lambd = group["lr"], group["lambd"]
        found["eta"] = _scalar(lr / ((1 + lambd * lr * steps) ** group["alpha"]))
        found["mu"] = _scalar(1 / max(1, steps - group["t0"]))
    return found


def _momentum_product(steps: int, beta: float, decay: float) -> float:
    found = 1.0
    for t in range(1, steps + 1):
        found *= beta * (1.0 - 0.5 * (0.96 ** (t * decay)))
    return found


def _scalar(value: float) -> Tensor:
    """As torch keeps counters: float32, or the default dtype where that is float64."""
    return torch.tensor(value, dtype=torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32)
