"""How a value that each microbatch returns becomes the value of the step: mean, sum, max, last, cat.

The reducers work elementwise over the microbatches, in their order; they do not reduce within a microbatch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal, get_args

import torch
from torch import Tensor

from funpipe._errors import LossError
from funpipe.functional.tree import type_text

ReduceKind = Literal["mean", "sum", "max", "last", "cat"]
KINDS: tuple[ReduceKind, ...] = get_args(ReduceKind)


@dataclass(frozen=True)
class Reduced:
    """A value of one microbatch and how it is combined over the microbatches.

    Args:
        kind: One of `mean`, `sum`, `max`, `last`, `cat`.
        value: The value, a tensor of the same shape in every microbatch.

    Raises:
        LossError: The value is not a tensor, or of a type that the reducer cannot combine.
    """

    kind: ReduceKind
    value: Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.value, Tensor):
            raise LossError(
                f"fp.{self.kind} takes a tensor, not a {type(self.value).__name__}; use torch.as_tensor(x)."
            )
        if self.kind in ("mean", "sum") and self.value.dtype == torch.bool:
            raise LossError(f"fp.{self.kind} of {type_text(self.value)} would add truth values; use x.float().")
        if self.kind == "cat" and self.value.ndim == 0:
            raise LossError(f"fp.cat takes rows, but {type_text(self.value)} has no dimension 0; use x[None].")


def mean(x: Tensor) -> Reduced:
    """The mean over the microbatches.

    Args:
        x: The microbatch's value; floating-point, or integer, whose mean is floating-point; any shape.

    Returns:
        The value with its reducer, for `fp.Out(loss, aux={name: ...})`.

    Raises:
        LossError: `x` is not a tensor, or boolean.

    Example:
        >>> combine("mean", [mean(torch.tensor(1.0)).value, mean(torch.tensor(2.0)).value])
        tensor(1.5000)
    """
    return Reduced("mean", x)


def sum(x: Tensor) -> Reduced:
    """The sum over the microbatches.

    Args:
        x: The microbatch's value; floating-point, or integer, whose sum is int64; any shape.

    Returns:
        The value with its reducer, for `fp.Out(loss, aux={name: ...})`.

    Raises:
        LossError: `x` is not a tensor, or boolean.

    Example:
        >>> combine("sum", [sum(torch.tensor(1)).value, sum(torch.tensor(2)).value])
        tensor(3)
    """
    return Reduced("sum", x)


def max(x: Tensor) -> Reduced:
    """The largest value over the microbatches, elementwise.

    Args:
        x: The microbatch's value; any real dtype, any shape.

    Returns:
        The value with its reducer, for `fp.Out(loss, aux={name: ...})`.

    Raises:
        LossError: `x` is not a tensor.

    Example:
        >>> combine("max", [max(torch.tensor([1, 4])).value, max(torch.tensor([2, 3])).value])
        tensor([2, 4])
    """
    return Reduced("max", x)


def last(x: Tensor) -> Reduced:
    """The value of the last microbatch.

    Args:
        x: The microbatch's value; any dtype, any shape.

    Returns:
        The value with its reducer, for `fp.Out(loss, aux={name: ...})`.

    Raises:
        LossError: `x` is not a tensor.

    Example:
        >>> combine("last", [last(torch.tensor(1)).value, last(torch.tensor(2)).value])
        tensor(2)
    """
    return Reduced("last", x)


def cat(x: Tensor) -> Reduced:
    """The values of all microbatches, concatenated along dimension 0.

    Args:
        x: The microbatch's value; any dtype, at least one dimension.

    Returns:
        The value with its reducer, for `fp.Out(loss, aux={name: ...})`.

    Raises:
        LossError: `x` is not a tensor, or has no dimension.

    Example:
        >>> combine("cat", [cat(torch.tensor([1, 2])).value, cat(torch.tensor([3])).value])
        tensor([1, 2, 3])
    """
    return Reduced("cat", x)


def combine(kind: ReduceKind, values: Sequence[Tensor]) -> Tensor:
    """Combines the values of the microbatches, given in their order.

    Args:
        kind: The reducer.
        values: One value for each microbatch; sums are taken from the first to the last.

    Returns:
        The value of the step; of integers the `sum` is int64 and the `mean` floating-point.

    Raises:
        LossError: The reducer is unknown, or there are no values.

    Example:
        >>> combine("mean", [torch.tensor(1.0), torch.tensor(4.0)])
        tensor(2.5000)
    """
    if not values:
        raise LossError(f"fp.{kind} got no values to combine; pass one for each microbatch.")
    match kind:
        case "mean":
            return _total(values) / len(values)
        case "sum":
            return _total(values)
        case "max":
            return reduce(torch.maximum, values)
        case "last":
            return values[-1]
        case "cat":
            return torch.cat(list(values))
    raise LossError(f"unknown reducer {kind!r}; use one of {', '.join(KINDS)}.")


def _total(values: Sequence[Tensor]) -> Tensor:
    """The sum, from the first to the last; of integers in int64, which a narrow type would not hold."""
    adds = values[0].is_floating_point() or values[0].is_complex()
    return reduce(torch.add, values if adds else [v.to(torch.int64) for v in values])
