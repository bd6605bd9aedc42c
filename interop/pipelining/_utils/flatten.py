"""The leaves of arguments, and arguments cut off from the graph that made them."""

from typing import Any

from torch import Tensor

from funpipe.interop.pipelining.trees import flatten, unflatten


def flatten_args(args: Any, *, detach: bool = False) -> Any:
    """The leaves of a tree of arguments.

    Args:
        args: Any tree; `None` is a leaf.
        detach: Whether to detach its tensors, too; they require a gradient where the originals do.

    Returns:
        The list of the leaves, in tree order; with `detach` the tree of the detached, and the list of its leaves.

    Example:
        >>> flatten_args((1, [2, (None, 3)]))
        [1, 2, None, 3]
    """
    leaves, structure = flatten(args)
    if not detach:
        return leaves
    detached = [_detached(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    return unflatten(structure, detached), detached


def flatten_args_detach(args: Any) -> tuple[Any, list[Any]]:
    """The arguments with their tensors detached, and the list of their leaves.

    Args:
        args: Any tree.

    Returns:
        The same tree of leaves that require a gradient where the originals do, and these leaves in tree order.

    Example:
        >>> import torch
        >>> (x,), leaves = flatten_args_detach((torch.ones(1, requires_grad=True) * 2,))
        >>> x.is_leaf, x.requires_grad, leaves[0] is x
        (True, True, True)
    """
    return flatten_args(args, detach=True)


def _detached(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_(tensor.requires_grad)
