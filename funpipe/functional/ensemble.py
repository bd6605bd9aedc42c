"""Many models of one architecture as one: `vmap` over a leading dimension of every parameter."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import optree
import torch
from torch import Tensor

from funpipe._errors import FunpipeTypeError, LossError
from funpipe._typing import Tree
from funpipe.functional.loss import LossOut, Out, Weighted, normalize
from funpipe.functional.members import dims_of, members
from funpipe.functional.random.keys import split
from funpipe.functional.reducers import Reduced, ReduceKind, mean, sum
from funpipe.functional.wrapped import with_keywords_of


def ensemble(loss_fn: Callable[..., Any], *, in_dims: tuple[Tree, Tree] = (0, None)) -> Callable[..., Out]:
    """The loss function of many members that are trained at once, each as if it were alone.

    The loss is the sum of the members' losses, so each member gets the gradient of its own: with an optimizer that
    treats every element alike (SGD, Adam, AdamW) the members take the steps of separate trainings. What reads more
    does not: `clip_by_global_norm` takes the norm over all members, Adafactor sizes over all members of a leaf.

    Args:
        loss_fn: `loss_fn(params, batch)`, with the keywords that it names. Buffers have a member dimension like the
            parameters'; each member gets a key of its own.
        in_dims: for parameters and batch the dimension that counts members, as prefix trees; None: all members get
            the same. It is inside the batch dimension: a microbatch has all members.

    Returns:
        A loss function of stacked parameters (`fp.stack`), whose aux has `"losses"`, the loss of each member (its sum,
        beside `"weight"`, if it is weighted), and the members' own values, stacked.

    Raises:
        LossError: the weight of `fp.Weighted` differs between members.
        TreeError: leaves count different numbers of members.

    Example:
        >>> stacked = {"w": torch.tensor([1.0, 2.0])}
        >>> out = ensemble(lambda p, x: (p["w"] * x).mean())(stacked, torch.ones(4))
        >>> out.loss, out.aux["losses"].value
        (tensor(3.), tensor([1., 2.]))
    """
    if not isinstance(in_dims, tuple) or len(in_dims) != 2:
        raise FunpipeTypeError(f"in_dims is {in_dims!r}; give a pair, for parameters and batch, such as (0, None).")

    def total(params: Tree, batch: Tree, **keywords: Any) -> Out:
        size = members(params, in_dims[0])
        dims = [*dims_of(params, in_dims[0]), *dims_of(batch, in_dims[1]), *dims_of(keywords, 0)]
        given: Any = (params, batch, _with_keys(keywords, size))
        leaves, structure = optree.tree_flatten(given)
        notes = _Notes()

        def member(*flat: Tensor) -> Any:
            mine: Any = optree.tree_unflatten(structure, flat)
            return notes.flat(normalize(loss_fn(mine[0], mine[1], **mine[2])))

        return notes.summed(*_mapped(member, tuple(dims), leaves))

    return with_keywords_of(loss_fn, total)


@dataclass
class _Notes:
    """What vmap cannot carry: the reducers of a member's aux, and the structure of its buffers."""

    kinds: dict[str, ReduceKind] = field(default_factory=dict)
    buffers: Any = None

    def flat(self, out: LossOut) -> tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]:
        """A member's results as tensors."""
        self.kinds = {name: value.kind for name, value in out.aux.items()}
        held, self.buffers = optree.tree_flatten(out.buffers)
        weight = [] if out.weight is None else [out.weight]
        return out.loss_sum, weight, [value.value for value in out.aux.values()], held

    def summed(self, losses: Tensor, weight: list[Tensor], values: list[Tensor], held: list[Tensor]) -> Out:
        """The results of all members; those that are concatenated keep their rows in front."""
        named = zip(self.kinds.items(), values, strict=True)
        aux = {n: Reduced(kind, v.movedim(0, 1) if kind == "cat" else v) for (n, kind), v in named}
        buffers = optree.tree_unflatten(self.buffers, held)
        if not weight:
            return Out(losses.sum(), {**aux, "losses": mean(losses)}, buffers)
        totals = {"losses": sum(losses), "weight": sum(weight[0])}
        return Out(Weighted(losses.sum(), weight[0]), {**aux, **totals}, buffers)


def _mapped(member: Callable[..., Any], dims: tuple[int | None, ...], leaves: list[Tensor]) -> Any:
    out_dims: Any = (0, None, 0, 0)  # the weight is that of the shared batch
    try:
        return torch.func.vmap(member, dims, out_dims, randomness="different")(*leaves)
    except ValueError as error:
        if "out_dim" not in str(error):
            raise
        raise LossError(
            "the weight of fp.Weighted differs between the members of an ensemble, and there is one division for all: "
            "give all members the same batch (in_dims=(0, None)), or return the mean of each member's items."
        ) from error


def _with_keys(keywords: dict[str, Any], size: int) -> dict[str, Any]:
    """The keywords with a key for each member."""
    key = keywords.get("key")
    return keywords if key is None else {**keywords, "key": split(key, size)}
