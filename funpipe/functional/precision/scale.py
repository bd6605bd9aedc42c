"""`DynamicScale`: what a loss is multiplied by, so that small gradients are not zero in float16."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from funpipe._errors import FunpipeError, FunpipeTypeError


@dataclass(frozen=True)
class DynamicScale:
    """A scale that falls when a gradient overflows, and grows again after a while without.

    A step whose gradients are not all finite is skipped on every rank: nothing of the state changes but the scale.

    Args:
        init: the scale of the first step.
        factor: a skipped step divides the scale by it, `window` good steps in a row multiply by it; 1 keeps the scale.
        window: how many good steps in a row.

    Raises:
        FunpipeError: a number is not finite, `init` is not positive, `factor` is below 1, or `window` is no positive
            whole number.

    Example:
        >>> DynamicScale(init=2.0**8, window=100)
        DynamicScale(init=256.0, factor=2.0, window=100)

    Source: Micikevicius et al., "Mixed Precision Training", ICLR 2018, section 3.2; the numbers are those of
    torch.amp.GradScaler.
    """

    init: float = 2.0**16
    factor: float = 2.0
    window: int = 2000

    def __post_init__(self) -> None:
        for name, value, least in (("init", self.init, 0.0), ("factor", self.factor, 1.0)):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise FunpipeTypeError(f"DynamicScale: {name} is {value!r}; pass a number, such as {name}=2.0.")
            if not math.isfinite(value) or value < least or value <= 0:
                bound = "a positive number" if name == "init" else "a number from 1 on"
                raise FunpipeError(f"DynamicScale: {name} is {value!r}; pass {bound}, such as {name}=2.0.")
        if isinstance(self.window, bool) or not isinstance(self.window, int) or self.window < 1:
            raise FunpipeError(f"DynamicScale: window is {self.window!r}; pass a whole number from 1 on.")

    @property
    def adapts(self) -> bool:
        """Whether the scale ever changes."""
        return self.factor != 1.0


def rescaled(value: Tensor, good: Tensor, skip: Tensor, factor: float, window: int) -> tuple[Tensor, Tensor]:
    """The scale and the count of good steps in a row, after a step.

    Args:
        value: 0-dim float32, the scale of the step.
        good: 0-dim int64, the good steps in a row before it.
        skip: 0-dim bool, whether it was skipped.
        factor, window: as for `DynamicScale`. A scale that would become infinite does not grow.

    Returns:
        Both, new tensors.

    Example:
        >>> rescaled(torch.tensor(8.0), torch.tensor(1), torch.tensor(False), 2.0, 2)
        (tensor(16.), tensor(0))
    """
    count = good + 1
    grows = (count == window) & ~skip
    grown = value * factor
    up = torch.where(grows & torch.isfinite(grown), grown, value)
    return torch.where(skip, value * (1.0 / factor), up), torch.where(skip | grows, torch.zeros_like(good), count)
