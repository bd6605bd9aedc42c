"""What a loss function may return, and the one form that the rest of funpipe reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from funpipe._errors import LossError
from funpipe.functional.reducers import KINDS, Reduced
from funpipe.functional.tree import named_leaves, type_text


@dataclass(frozen=True)
class Weighted:
    """A loss whose microbatches weigh differently: the step's loss is all the sums by all the weights.

    Gradients of the sums are accumulated and divided once, by the weight of the whole global batch.

    Args:
        sum: The sum of the losses of the microbatch's items; a floating-point scalar tensor.
        weight: How much they count, such as the number of tokens that are not padding; a real scalar tensor that does
            not depend on the parameters.

    Example:
        >>> import torch
        >>> losses, mask = torch.tensor([1.0, 2.0, 9.0]), torch.tensor([True, True, False])
        >>> Weighted((losses * mask).sum(), mask.sum())
        Weighted(sum=tensor(3.), weight=tensor(2))
    """

    sum: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Out:
    """A loss with what else a loss function returns.

    Args:
        loss: A floating-point scalar tensor, or `Weighted`.
        aux: Values to report, each with how it is combined over the microbatches: `{"acc": fp.mean(acc)}`.
        buffers: The new buffers; those that were given, in structure, shapes and dtypes.

    Example:
        >>> import torch
        >>> from funpipe.functional.reducers import mean
        >>> sorted(Out(torch.tensor(1.0), aux={"acc": mean(torch.tensor(0.5))}).aux)
        ['acc']
    """

    loss: Tensor | Weighted
    aux: Mapping[str, Reduced] = field(default_factory=dict)
    buffers: Any = None


@dataclass(frozen=True)
class LossOut:
    """What a loss function returned, checked and in one form.

    Args:
        loss_sum: The loss, or the sum if it is weighted; a floating-point scalar.
        weight: The weight, a real scalar; `None` if the loss is not weighted.
        aux: Values to report with their reducers, sorted by name.
        buffers: The new buffers, `None` if there are none.
    """

    loss_sum: Tensor
    weight: Tensor | None
    aux: dict[str, Reduced]
    buffers: Any


def normalize(out: Tensor | Weighted | Out) -> LossOut:
    """Checks what a loss function returned and brings it into one form.

    Args:
        out: A loss, or `Out` with one.

    Returns:
        The parts.

    Raises:
        LossError: The loss is not a floating-point scalar, the weight is no constant real scalar, or a value of `aux`
            has no reducer.

    Example:
        >>> import torch
        >>> normalize(torch.tensor(2.0)).weight is None
        True
    """
    out = out if isinstance(out, Out) else Out(out)
    aux = _checked_aux(out.aux)
    if out.buffers is not None:
        named_leaves(out.buffers, what="the buffers of fp.Out")
    if not isinstance(out.loss, Weighted):
        return LossOut(_checked_loss(out.loss), None, aux, out.buffers)
    loss_sum = _checked_loss(out.loss.sum, "the sum of fp.Weighted", ".sum()")
    return LossOut(loss_sum, _checked_weight(out.loss.weight), aux, out.buffers)


def _checked_loss(loss: Any, what: str = "the loss", remedy: str = ".mean()") -> Tensor:
    """The loss, if it is a floating-point scalar."""
    if not isinstance(loss, Tensor):
        raise LossError(
            f"{what} is of type {type(loss).__name__}, not a tensor; return a scalar tensor, fp.Weighted(sum, weight), "
            f"or fp.Out(loss, aux={{...}}) with one of them."
        )
    if loss.ndim != 0:
        raise LossError(f"{what} has shape {tuple(loss.shape)}, not that of a scalar; reduce it with {remedy}.")
    if not loss.dtype.is_floating_point:
        raise LossError(
            f"{what} is {type_text(loss)}, not floating-point, and has no gradient; convert it with .float()."
        )
    return loss


def _checked_weight(weight: Any) -> Tensor:
    """The weight, if it is a real scalar that does not depend on the parameters."""
    what = "the weight of fp.Weighted"
    if not isinstance(weight, Tensor):
        raise LossError(f"{what} is of type {type(weight).__name__}, not a tensor; use loss.new_tensor(weight).")
    if weight.ndim != 0:
        raise LossError(f"{what} has shape {tuple(weight.shape)}, not that of a scalar; reduce it with .sum().")
    if weight.dtype.is_complex:
        raise LossError(f"{what} is {type_text(weight)}, not a real number; pass its real part.")
    if weight.requires_grad:
        raise LossError(f"{what} depends on the parameters, but is no part of the gradient; pass weight.detach().")
    return weight


def _checked_aux(aux: Any) -> dict[str, Reduced]:
    """The values to report, sorted by name, if each has a reducer."""
    if not isinstance(aux, Mapping):
        raise LossError(f"aux is of type {type(aux).__name__}; pass a dict from names to reduced values.")
    reducers = ", ".join(f"fp.{kind}" for kind in KINDS)
    for name, value in aux.items():
        if not isinstance(name, str):
            raise LossError(f"aux has the key {name!r}; use a str.")
        if name == "loss":
            raise LossError("aux has the key 'loss', which is the name of the loss itself; use another name.")
        if not isinstance(value, Reduced):
            raise LossError(f"aux[{name!r}] is {type_text(value)} without a reducer; wrap it in one of {reducers}.")
    return {name: aux[name] for name in sorted(aux)}
