"""Reductions over axes of the mesh, for pytrees of tensors in a pure step.

Each rank runs the same step on its own values. Inside it, a collective combines the values that the ranks along an axis
have at that line. Derivatives are those of the sum of all ranks' outputs; see `funpipe.functional.derivatives`.
Along an axis of one rank nothing is communicated.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import optree
import torch
from torch import Tensor

from funpipe._errors import FunpipeTypeError
from funpipe.functional.axes import AxisName, Members, members_along
from funpipe.functional.derivatives import AllReduceExtreme, AllReduceSum
from funpipe.functional.tree import leaf_name, place

T = TypeVar("T")


def psum(x: T, axis: AxisName) -> T:
    """The sum over the ranks of an axis; each rank gets it.

    Args:
        x: a pytree of tensors of any shape and dtype, with the same shapes on all ranks; of booleans the True are
            counted, as int64.
        axis: "dp", "pp" or ("dp", "pp").

    Returns:
        A tree like `x`. The derivative of `psum` is `psum`.

    Raises:
        CommunicationError: there is no such axis, or no step is being traced.
        FunpipeTypeError: a leaf is not a tensor.

    Example:
        >>> import torch, funpipe as fp
        >>> def step(state, x):
        ...     return state, fp.psum({"sum": x, "count": x > 0}, "dp")
        >>> traced = fp.trace_step(step, {}, torch.ones(3), mesh=fp.MeshShape(pp=1, dp=2))
        >>> [str(kind.type) for kind in traced.graph.nodes if "wait" in kind.name]
        ['int64[3]', 'float32[3]']
    """
    members = members_along(axis, "psum")
    return each_leaf("psum", x, lambda name, leaf: _sum(leaf, members))


def pmean(x: T, axis: AxisName) -> T:
    """The mean over the ranks of an axis: `psum` divided by their number.

    Args:
        x: a pytree of tensors of any shape; integers give floating-point means.
        axis: "dp", "pp" or ("dp", "pp").

    Returns:
        A tree like `x`. The derivative of `pmean` is `pmean`.

    Raises:
        CommunicationError, FunpipeTypeError: as for `psum`.

    Example:
        >>> import torch, funpipe as fp
        >>> def step(state, x):
        ...     return state, fp.pmean(x, "dp")
        >>> traced = fp.trace_step(step, {}, torch.ones(3), mesh=fp.MeshShape(pp=1, dp=2))
        >>> [node.name for node in traced.graph.nodes]
        ['all_reduce', 'wait_tensor', 'div']
    """
    members = members_along(axis, "pmean")
    return each_leaf("pmean", x, lambda name, leaf: _sum(leaf, members) / members.size)


def pmax(x: T, axis: AxisName) -> T:
    """The largest value over the ranks of an axis, element by element; without a derivative.

    Args:
        x: a pytree of real tensors of any shape and dtype.
        axis: "dp", "pp" or ("dp", "pp").

    Returns:
        A tree like `x`.

    Raises:
        CommunicationError: as for `psum`, or the result is differentiated.
        FunpipeTypeError: a leaf is not a tensor, or is complex.

    Example:
        >>> import torch, funpipe as fp
        >>> def step(state, x):
        ...     return state, fp.pmax(x.abs().amax(), "dp")
        >>> traced = fp.trace_step(step, {}, torch.ones(3), mesh=fp.MeshShape(pp=1, dp=2))
        >>> [node.name for node in traced.graph.nodes]
        ['abs_1', 'amax', 'all_reduce', 'wait_tensor']
    """
    return _extreme("pmax", x, axis)


def pmin(x: T, axis: AxisName) -> T:
    """The smallest value over the ranks of an axis, element by element; without a derivative.

    Args:
        x: a pytree of real tensors of any shape and dtype.
        axis: "dp", "pp" or ("dp", "pp").

    Returns:
        A tree like `x`.

    Raises:
        CommunicationError, FunpipeTypeError: as for `pmax`.

    Example:
        >>> import torch, funpipe as fp
        >>> def step(state, x):
        ...     return state, fp.pmin(x.isfinite().all(), "dp")
        >>> traced = fp.trace_step(step, {}, torch.ones(3), mesh=fp.MeshShape(pp=1, dp=2))
        >>> traced.graph.nodes[-1].type.dtype
        torch.bool
    """
    return _extreme("pmin", x, axis)


def _sum(leaf: Tensor, members: Members) -> Tensor:
    numbers = counted(leaf)
    return numbers if members.size == 1 else AllReduceSum.apply(numbers, members)


def _extreme(what: str, x: T, axis: AxisName) -> T:
    members = members_along(axis, what)

    def extreme(name: str, leaf: Tensor) -> Tensor:
        if leaf.is_complex():
            raise FunpipeTypeError(f"{what}: {place(name)} is complex, which has no order; pass x.abs() or x.real.")
        if members.size == 1:
            return leaf
        numbers = leaf.to(torch.uint8) if leaf.dtype == torch.bool else leaf
        return AllReduceExtreme.apply(numbers, members, what[1:]).to(leaf.dtype)

    return each_leaf(what, x, extreme)


def counted(leaf: Tensor) -> Tensor:
    """Numbers that can be added."""
    return leaf.to(torch.int64) if leaf.dtype == torch.bool else leaf


def each_leaf(what: str, tree: Any, function: Callable[[str, Tensor], Tensor]) -> Any:
    """Applies a function of name and leaf to every leaf."""
    paths, leaves, spec = optree.tree_flatten_with_path(tree)
    named = [(leaf_name(path), leaf) for path, leaf in zip(paths, leaves, strict=True)]
    for name, leaf in named:
        if not isinstance(leaf, Tensor):
            raise FunpipeTypeError(
                f"{what}: {place(name)} is of type {type(leaf).__name__}, not a tensor; pass torch.as_tensor(x)."
            )
    return optree.tree_unflatten(spec, [function(name, leaf) for name, leaf in named])
