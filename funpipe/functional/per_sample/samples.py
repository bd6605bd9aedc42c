"""A loss function of one sample at a time: the samples of a batch, each as a batch of its own, mapped by `vmap`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optree
import torch
from torch import Tensor

from funpipe._errors import FunpipeError, LossError
from funpipe._typing import Tree
from funpipe.functional.batch_spec import resolve, rows_of
from funpipe.functional.loss import LossOut, Out, Weighted, normalize
from funpipe.functional.random.keys import split
from funpipe.functional.reducers import Reduced, ReduceKind
from funpipe.functional.signature import keywords_of

LossOf = Callable[[Tree], tuple[Tensor, dict[str, Tensor]]]
"""The loss of one sample as a function of the parameters, and what else belongs to it."""


@dataclass(frozen=True)
class Losses:
    """The losses of the samples of one microbatch.

    Args:
        each: one for each sample; the sum, where the loss is weighted.
        weights: one for each sample, or None.
        aux: values that the loss function reports, with a dimension 0 that counts samples, and their reducers.
    """

    each: Tensor
    weights: Tensor | None
    aux: dict[str, tuple[ReduceKind, Tensor]]

    def out(self, total: Tensor) -> Out:
        """What a loss function of the microbatch returns.

        Args:
            total: the sum of the losses, or what stands for it.
        """
        aux = {name: Reduced(kind, _over_samples(kind, value)) for name, (kind, value) in self.aux.items()}
        if self.weights is None:
            return Out(total / len(self.each), aux)
        return Out(Weighted(total, self.weights.sum()), aux)


def check_independent(loss_fn: Callable[..., Any], name: str) -> None:
    """Raises if a loss function may mix samples: one that has buffers.

    Args:
        loss_fn: the loss function.
        name: who asks.

    Raises:
        LossError: it takes buffers.
    """
    if "buffers" in keywords_of(loss_fn):
        raise LossError(
            f"{name}: the loss function takes buffers, which every sample would update: statistics such as those of "
            "a batch normalization mix samples. Use a normalization of each sample (torch.nn.GroupNorm), or bind "
            "buffers that do not change with functools.partial."
        )


def check_max_norm(max_norm: float, name: str) -> None:
    """Raises unless it is a number above 0."""
    if isinstance(max_norm, bool) or not isinstance(max_norm, (int, float)) or not max_norm > 0:
        raise FunpipeError(f"{name}: max_norm is {max_norm!r}; pass a number above 0, such as 1.0.")


def rows_in(batch: Tree, spec: Tree) -> int:
    """How many samples a batch has.

    Raises:
        BatchError: its leaves disagree, or none counts samples.
    """
    rows = rows_of(resolve(batch, spec)[0])
    if rows is None:
        raise LossError(
            f"batch_spec {spec!r} says that no leaf counts samples, so there are none to take gradients of: give the "
            "batch dimension of each leaf."
        )
    return rows


def mapped(
    loss_fn: Callable[..., Any],
    batch: Tree,
    spec: Tree,
    per_sample: Callable[[LossOf, Any], Any],
    own: Tree = (),
    **keywords: Any,
) -> tuple[Any, dict[str, ReduceKind]]:
    """Maps a function of a sample's loss over the samples of a batch.

    Args:
        loss_fn: the loss function; it is given batches of one sample.
        batch: with several samples.
        spec: the dimension of each of its leaves that counts samples, as a prefix tree.
        per_sample: is given `loss_of(params)`, which returns the sample's loss and what else belongs to it, and the
            sample's part of `own`; returns any tree of tensors.
        own: a tree of tensors with a dimension 0 that counts samples.
        **keywords: that the loss function takes; each sample gets a key of its own.

    Returns:
        What `per_sample` returned, with a dimension 0 that counts samples, and the reducers of what is reported.
    """
    leaves, structure = resolve(batch, spec)
    dims = tuple(leaf.dim for leaf in leaves)
    kinds: dict[str, ReduceKind] = {}
    keys = {"key": split(keywords["key"], rows_in(batch, spec))} if keywords.get("key") is not None else {}

    def one(mine: Any, own_key: dict[str, Tensor], *flat: Any) -> Any:
        rows = [v if d is None else v.unsqueeze(d) for v, d in zip(flat, dims, strict=True)]

        def loss_of(params: Tree) -> tuple[Tensor, dict[str, Tensor]]:
            out = normalize(loss_fn(params, optree.tree_unflatten(structure, rows), **keywords | own_key))
            kinds.update({name: value.kind for name, value in out.aux.items()})
            return out.loss_sum, _rest(out)

        return per_sample(loss_of, mine)

    values = (leaf.value for leaf in leaves)
    return torch.func.vmap(one, (0, 0, *dims), randomness="different")(own, keys, *values), kinds


def losses_of(each: Tensor, rest: dict[str, Tensor], kinds: dict[str, ReduceKind]) -> Losses:
    """What `mapped` has found, in one value.

    Args:
        each: the losses of the samples.
        rest: what else `loss_of` returned.
        kinds: the reducers of the values that are reported.
    """
    aux: dict[str, tuple[ReduceKind, Tensor]] = {n: (kind, rest[f"aux.{n}"]) for n, kind in kinds.items()}
    return Losses(each, rest.get("weight"), aux)


def _rest(out: LossOut) -> dict[str, Tensor]:
    weight = {} if out.weight is None else {"weight": out.weight}
    return weight | {f"aux.{name}": value.value for name, value in out.aux.items()}


def _over_samples(kind: ReduceKind, value: Tensor) -> Tensor:
    """A value of each sample as that of the microbatch."""
    if kind == "mean":
        return value.mean(0) if value.is_floating_point() or value.is_complex() else value.double().mean(0)
    if kind == "cat":
        return value.flatten(0, 1)
    return {"sum": lambda: value.sum(0), "max": lambda: value.amax(0), "last": lambda: value[-1]}[kind]()
