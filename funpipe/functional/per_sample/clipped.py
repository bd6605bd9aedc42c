"""A loss function whose gradient is the mean of the samples' gradients, each clipped: in one pass."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from funpipe._typing import Tree
from funpipe.functional.loss import Out
from funpipe.functional.per_sample.samples import LossOf, check_independent, check_max_norm, losses_of, mapped
from funpipe.functional.tree import named_leaves, unflatten_named
from funpipe.functional.wrapped import with_keywords_of


def per_sample_clipped(loss_fn: Callable[..., Any], max_norm: float, *, batch_spec: Tree = 0) -> Callable[..., Out]:
    """A loss function whose gradient is the mean of per-sample gradients, each scaled to a norm of at most `max_norm`.

    The value stays the loss. The norm of a sample's gradient is over all leaves. The samples' gradients are taken
    inside of the loss, so they are a part of the forward and lie where the forward is cut: `funpipe.private_step` does
    the same with each stage's gradients on its own rank.

    Args:
        loss_fn: `loss_fn(params, batch)`, called with batches of one sample. It must not mix samples. A `Weighted` one
            has the gradients of its sums clipped, and is divided by all weights: a sample of weight 0 counts zero.
        max_norm: above 0.
        batch_spec: the dimension of each leaf of the batch that counts samples, as a prefix tree.

    Returns:
        A loss function of whole batches, with the same values in `aux`.

    Raises:
        FunpipeError: `max_norm` is not above 0.
        LossError: the loss function takes buffers.

    Example:
        >>> clipped = per_sample_clipped(lambda p, x: (p * x).sum(), max_norm=1.0)
        >>> torch.func.grad(lambda p: clipped(p, torch.tensor([0.5, 4.0])).loss)(torch.tensor(1.0))
        tensor(0.7500)

    Source: M. Abadi et al., Deep learning with differential privacy (2016), algorithm 1.
    """
    check_independent(loss_fn, "per_sample_clipped")
    check_max_norm(max_norm, "per_sample_clipped")

    def mean_of_clipped(params: Tree, batch: Tree, **keywords: Any) -> Out:
        named, spec = named_leaves(params, what="params")
        fixed = {n: leaf.detach() for n, leaf in named.items()}
        moving = {n: fixed[n] for n in trained(named)}

        def gradient(loss_of: LossOf, _own: Any) -> Any:
            def of(leaves: Mapping[str, Tensor]) -> Any:
                return loss_of(unflatten_named(spec, {**fixed, **leaves}))

            return torch.func.grad_and_value(of, has_aux=True)(moving)

        (grads, (each, rest)), kinds = mapped(loss_fn, batch, batch_spec, gradient, **keywords)
        scale = factors(torch.stack([squares_of(g) for g in grads.values()]).sum(0), max_norm)
        # Linear in the leaves: its gradient is the sum of the clipped gradients, and its value is taken off again.
        inner = torch.stack([(_weighted(g, scale) * named[n]).sum() for n, g in grads.items()]).sum()
        return losses_of(each, rest, kinds).out(each.sum() + (inner - inner.detach()).to(each.dtype))

    return with_keywords_of(loss_fn, mean_of_clipped)


def trained(named: Mapping[str, Tensor]) -> list[str]:
    """The leaves whose gradients count: those that require one; where none does, all floating-point ones."""
    asked = any(leaf.requires_grad for leaf in named.values())
    return [n for n, t in named.items() if t.is_floating_point() and (t.requires_grad or not asked)]


def norm_dtype(dtypes: Iterable[torch.dtype]) -> torch.dtype:
    """In what norms of gradients of these dtypes are computed: single precision, or double if any of them is."""
    return torch.float64 if torch.float64 in set(dtypes) else torch.float32


def squares_of(grads: Tensor) -> Tensor:
    """The sum of squares of each sample's gradient, in single precision at least."""
    return grads.to(torch.promote_types(grads.dtype, torch.float32)).square().reshape(len(grads), -1).sum(1)


def factors(squares: Tensor, max_norm: float) -> Tensor:
    """By what each sample's gradient is multiplied: min(1, max_norm / norm).

    Args:
        squares: the sum of squares of each sample's gradient, over all leaves.
        max_norm: above 0.

    Example:
        >>> factors(torch.tensor([0.0, 4.0, 16.0]), 2.0)
        tensor([1.0000, 1.0000, 0.5000])
    """
    return max_norm / squares.sqrt().clamp(min=max_norm)


def _weighted(grads: Tensor, scale: Tensor) -> Tensor:
    """The sum over the samples, each with its factor."""
    return torch.tensordot(scale.to(grads.dtype), grads, dims=1)
