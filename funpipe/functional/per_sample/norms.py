"""The norms of the samples' gradients as the gradient of a loss function.

A leaf goes into the loss once for each sample, through a `_Probe`: the gradient that comes back to it has a row for
each sample. The probe keeps the sum of squares of each row and drops the rest. It hands the sums to a vector that the
loss does not depend on, as that vector's gradient. So norms are a part of the backward: each stage takes those of its
own leaves, where it has their gradients, and what flows on to the stage before is one number for each sample.
"""

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor

from funpipe._typing import Tree
from funpipe.functional.per_sample.clipped import squares_of
from funpipe.functional.per_sample.samples import LossOf, check_independent, mapped
from funpipe.functional.tree import named_leaves, unflatten_named
from funpipe.functional.wrapped import with_keywords_of


def squared_norms(loss_fn: Callable[..., Any], trained: Collection[str], batch_spec: Tree = 0) -> Callable[..., Tensor]:
    """A loss function whose gradient, by a vector, is the squared norm of each sample's gradient.

    Args:
        loss_fn: `loss_fn(params, batch)`, called with batches of one sample; the sums of a weighted one count.
        trained: the names of the leaves whose gradients count.
        batch_spec: the dimension of each leaf of the batch that counts samples, as a prefix tree.

    Returns:
        `f({"params": params, "squares": zeros}, {"batch": batch, "row": rows}) -> sum of the losses`: `rows` says which
        entry of `squares` is of which sample. Entry `rows[i]` of the gradient by `squares` is the squared norm of
        the gradient of sample `i`, over the trained leaves.

    Raises:
        LossError: the loss function takes buffers.

    Example:
        >>> f = squared_norms(lambda p, x: (p["w"] * x).sum(), ["w"])
        >>> given = {"params": {"w": torch.ones(2)}, "squares": torch.zeros(2, requires_grad=True)}
        >>> loss = f(given, {"batch": torch.tensor([[3.0, 4.0], [0.0, 2.0]]), "row": torch.arange(2)})
        >>> torch.autograd.grad(loss, given["squares"])
        (tensor([25.,  4.]),)
    """
    check_independent(loss_fn, "squared_norms")

    def total(given: Any, batch: Any, **keywords: Any) -> Tensor:
        named, spec = named_leaves(given["params"], what="params")
        sums = given["squares"].index_select(0, batch["row"])
        moving = {n: _Probe.apply(named[n], sums) for n in trained}

        def loss(loss_of: LossOf, mine: dict[str, Tensor]) -> Tensor:
            return loss_of(unflatten_named(spec, named | mine))[0]

        return mapped(loss_fn, batch["batch"], batch_spec, loss, moving, **keywords)[0].sum()

    return with_keywords_of(loss_fn, total)


class _Probe(torch.autograd.Function):
    """A leaf once for each sample; backward, the squared norm of each sample's gradient."""

    @staticmethod
    def forward(ctx: Any, leaf: Tensor, sums: Tensor) -> Tensor:
        ctx.dtype = sums.dtype
        return leaf.expand(len(sums), *leaf.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[None, Tensor]:
        return None, squares_of(grads[0]).to(ctx.dtype)
