"""How many labels of a batch count in a loss that leaves some out.

The mean of the microbatches' means is the mean of the batch only where as many labels count in each. While this is
open, every mean cross entropy is computed as the sum that it is, over the number of labels that count, and both are
kept: whoever finds that the model's loss is one of these means can add up the sums and the numbers instead.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class Mean:
    """A mean over the labels that count.

    Args:
        value: the mean, as the model gets it.
        sum: over these labels.
        count: of them; an integer scalar.
    """

    value: Tensor
    sum: Tensor
    count: Tensor


@dataclass(eq=False)
class CountingLabels(TorchFunctionMode):
    """While open, keeps every mean cross entropy with its sum and the number of labels that count.

    Args:
        means: that were computed, in order.

    Example:
        >>> with CountingLabels() as counting:
        ...     mean = functional.cross_entropy(torch.zeros(3, 2), torch.tensor([0, -100, 1]))
        >>> counting.of(mean).count
        tensor(2)
    """

    means: list[Mean] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.cross_entropy and _is_plain_mean(*args, **kwargs):
            return self._mean(*args, **kwargs)
        return func(*args, **kwargs)

    def _mean(self, input: Tensor, target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        total = functional.cross_entropy(input, target, *args, **{**kwargs, "reduction": "sum"})
        count = (target != kwargs.get("ignore_index", -100)).sum()
        self.means.append(Mean(total / count, total, count))
        return self.means[-1].value

    def of(self, loss: Tensor) -> Mean | None:
        """The mean that a loss is; None: it is another value, such as a sum of several."""
        return next((mean for mean in self.means if mean.value is loss), None)


def _is_plain_mean(input: Any, target: Any, *args: Any, **kwargs: Any) -> bool:
    """Whether a cross entropy counts each class alike, and each label that it does not leave out."""
    if args or kwargs.get("weight") is not None or kwargs.get("reduction", "mean") != "mean":
        return False
    if kwargs.get("size_average") is not None or kwargs.get("reduce") is not None:
        return False
    return isinstance(target, torch.Tensor) and not target.dtype.is_floating_point
