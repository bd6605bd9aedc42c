"""A loss function in which each sample's gradient counts by a factor that comes with the batch."""

from collections.abc import Callable
from typing import Any

from funpipe._typing import Tree
from funpipe.functional.loss import Out
from funpipe.functional.per_sample.samples import check_independent, losses_of, mapped
from funpipe.functional.reducers import mean
from funpipe.functional.wrapped import with_keywords_of


def scaled(loss_fn: Callable[..., Any], batch_spec: Tree = 0) -> Callable[..., Out]:
    """A loss function whose gradient is the mean of the samples' gradients, each times a factor; its value is the loss.

    Args:
        loss_fn: `loss_fn(params, batch)`, called with batches of one sample.
        batch_spec: the dimension of each leaf of the batch that counts samples, as a prefix tree.

    Returns:
        `f(params, {"batch": batch, "factor": factors}) -> fp.Out`, with `aux["clipped"]` besides the loss function's
        own: the share of samples whose factor is below 1.

    Raises:
        LossError: the loss function takes buffers.

    Example:
        >>> import torch
        >>> f = scaled(lambda p, x: (p * x).sum())
        >>> given = {"batch": torch.tensor([2.0, 4.0]), "factor": torch.tensor([1.0, 0.5])}
        >>> f(torch.tensor(1.0), given).loss, torch.func.grad(lambda p: f(p, given).loss)(torch.tensor(1.0))
        (tensor(3.), tensor(2.))
    """
    check_independent(loss_fn, "scaled")

    def total(params: Tree, given: Any, **keywords: Any) -> Out:
        batch, factor = given["batch"], given["factor"]
        (each, rest), kinds = mapped(loss_fn, batch, batch_spec, lambda loss_of, _: loss_of(params), **keywords)
        counted = (each * factor.to(each.dtype)).sum()
        out = losses_of(each, rest, kinds).out(counted + (each.sum() - counted).detach())
        return Out(out.loss, {"clipped": mean((factor < 1).to(factor.dtype).mean()), **out.aux})

    return with_keywords_of(loss_fn, total)
