"""A module with a batch as a loss function, its parameters and its buffers: for a look at it, not for training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from funpipe._errors import LossError
from funpipe._typing import Tree
from funpipe.functional.functionalize import functionalize
from funpipe.functional.loss import Out
from funpipe.tracing.ways.packed import pack


class NoLoss(LossError):
    """A module returned no loss of its own."""


@dataclass(frozen=True, eq=False)
class ModelLoss:
    """What is traced.

    Args:
        what: its name.
        loss_fn: a loss function.
        params, batch, buffers: its arguments.
        aliases: for each further name of a tied parameter the name of its leaf.
        forward: the same without a loss of its own, for the forward alone; None if there is none.
    """

    what: str
    loss_fn: Callable[..., Any]
    params: Tree
    batch: Tree
    buffers: Tree
    aliases: Mapping[str, str] = field(default_factory=dict)
    forward: Callable[..., Any] | None = None


def model_loss(module: nn.Module, batch: Any) -> ModelLoss:
    """A module as a loss function: the loss is what its output calls `loss`, or the output if that is a number.

    Args:
        module: the module.
        batch: a dict of keyword arguments, a tuple or list of positional ones, or the only one.

    Raises:
        TreeError: a parameter of a lazy module has no shape yet.
    """
    apply, params, buffers = functionalize(module)

    def called(params: Any, batch: Any, buffers: Any, loss_of: Callable[[Any], Tensor]) -> Out:
        args = tuple(batch) if isinstance(batch, tuple | list) else (batch,)
        out, new = apply(params, buffers, **batch) if isinstance(batch, Mapping) else apply(params, buffers, *args)
        return Out(loss_of(out), buffers=new)

    def loss_fn(params: Any, batch: Any, *, buffers: Any) -> Out:
        return called(params, batch, buffers, _own_loss)

    def forward(params: Any, batch: Any, *, buffers: Any) -> Out:
        return called(params, batch, buffers, _sum)

    return ModelLoss(type(module).__name__, loss_fn, params, batch, buffers, apply.aliases, forward)


def _own_loss(out: Any) -> Tensor:
    loss = out.get("loss") if isinstance(out, Mapping) else getattr(out, "loss", None)
    loss = out if isinstance(out, Tensor) and out.ndim == 0 else loss
    if not isinstance(loss, Tensor):
        raise NoLoss("the module returns no loss of its own.")
    return loss


def _sum(out: Any) -> Tensor:
    """A number that everything floating-point in an output goes into."""
    found = [t.sum().float() for t in pack(out, code=True)[0] if t.is_floating_point()]
    return torch.stack(found).sum() if found else torch.zeros(())
