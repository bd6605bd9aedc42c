"""Collectives along a dimension: the whole from the ranks' parts, and each rank's part of the sum."""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

from funpipe._errors import CommunicationError
from funpipe.functional.axes import AxisName, Members, members_along
from funpipe.functional.collectives import counted, each_leaf
from funpipe.functional.derivatives import AllGather, ReduceScatter
from funpipe.functional.tree import place, type_text

T = TypeVar("T")


def all_gather(x: T, axis: AxisName, dim: int = 0) -> T:
    """The tensors of the ranks of an axis, one after the other along a dimension; each rank gets the whole.

    Args:
        x: a pytree of tensors with the same shapes on all ranks; a 0-dim one counts as one element.
        axis: "dp", "pp" or ("dp", "pp"), in the order of the mesh.
        dim: the dimension, of each leaf.

    Returns:
        A tree like `x`, with that dimension as many times as large as there are ranks. The derivative of `all_gather`
        is `reduce_scatter`.

    Raises:
        CommunicationError: as for `psum`, or a leaf has no such dimension.
        FunpipeTypeError: a leaf is not a tensor.

    Example:
        >>> import torch, funpipe as fp
        >>> def step(state, x):
        ...     return state, fp.all_gather(x, "dp", dim=1)
        >>> traced = fp.trace_step(step, {}, torch.ones(3, 4), mesh=fp.MeshShape(pp=1, dp=2))
        >>> print(traced.graph.nodes[-1].type)
        float32[3,8]
    """
    members = members_along(axis, "all_gather", ordered=True)

    def gather(name: str, leaf: Tensor) -> Tensor:
        leaf = leaf.unsqueeze(0) if leaf.ndim == 0 else leaf
        at = _dimension("all_gather", name, leaf, dim)
        return leaf if members.size == 1 else _along(at, leaf, lambda first: AllGather.apply(first, members))

    return each_leaf("all_gather", x, gather)


def reduce_scatter(x: T, axis: AxisName, dim: int = 0) -> T:
    """The sum over the ranks of an axis, of which each rank gets its share of a dimension.

    Args:
        x: a pytree of tensors with the same shapes on all ranks; booleans are counted, as int64.
        axis: "dp", "pp" or ("dp", "pp"), in the order of the mesh.
        dim: the dimension, of each leaf; a multiple of the number of ranks.

    Returns:
        A tree like `x`, with that dimension divided by the number of ranks. The derivative of `reduce_scatter` is
        `all_gather`.

    Raises:
        CommunicationError: as for `psum`, or a leaf has no such dimension, or it cannot be shared equally.
        FunpipeTypeError: a leaf is not a tensor.

    Example:
        >>> import torch, funpipe as fp
        >>> def step(state, x):
        ...     return state, fp.reduce_scatter(x, "dp")
        >>> traced = fp.trace_step(step, {}, torch.ones(6, 4), mesh=fp.MeshShape(pp=1, dp=2))
        >>> print(traced.graph.nodes[-1].type)
        float32[3,4]
    """
    members = members_along(axis, "reduce_scatter", ordered=True)

    def scatter(name: str, leaf: Tensor) -> Tensor:
        at = _dimension("reduce_scatter", name, leaf, dim)
        _check_shares(name, leaf, at, members)
        numbers = counted(leaf)
        return numbers if members.size == 1 else _along(at, numbers, lambda first: ReduceScatter.apply(first, members))

    return each_leaf("reduce_scatter", x, scatter)


def _along(dim: int, leaf: Tensor, collective: Callable[[Tensor], Any]) -> Tensor:
    """A collective of the first dimension, along another one."""
    return collective(leaf.movedim(dim, 0)).movedim(0, dim) if dim else collective(leaf)


def _dimension(what: str, name: str, leaf: Tensor, dim: int) -> int:
    if not -leaf.ndim <= dim < leaf.ndim:
        last = f"one from 0 to {leaf.ndim - 1}" if leaf.ndim else "a tensor with a dimension to share"
        raise CommunicationError(f"{what}: {place(name)} is {type_text(leaf)} and has no dimension {dim}; pass {last}.")
    return dim % leaf.ndim


def _check_shares(name: str, leaf: Tensor, dim: int, members: Members) -> None:
    length, left = leaf.shape[dim], leaf.shape[dim] % members.size
    if left:
        raise CommunicationError(
            f"reduce_scatter: dimension {dim} of {place(name)}, {type_text(leaf)}, is {length}, which {members.size} "
            f"ranks along {members.axis!r} cannot share equally; pad it to {length - left + members.size}."
        )
