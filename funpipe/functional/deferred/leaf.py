"""A leaf without values that knows how to get them: a tensor on the meta device with a note."""

from collections.abc import Callable
from typing import Any

import optree
import torch
from torch import Tensor

from funpipe._typing import Tree

_NOTE = "funpipe_made_by"


def deferred(make: Callable[[], Tensor], like: Tensor, trained: bool) -> Tensor:
    """A tensor on the meta device that `made` gives values.

    Args:
        make: gives the tensor; called each time.
        like: its shape, strides and dtype.
        trained: whether it requires a gradient.

    Returns:
        A tensor without memory.

    Example:
        >>> leaf = deferred(lambda: torch.ones(2), torch.empty(2), trained=True)
        >>> leaf.device, made(leaf)
        (device(type='meta'), tensor([1., 1.]))
    """
    leaf = torch.empty_strided(tuple(like.shape), like.stride(), dtype=like.dtype, device="meta")
    setattr(leaf, _NOTE, make)
    return leaf.requires_grad_(trained)


def is_deferred(leaf: Any) -> bool:
    """Whether a leaf has no values yet and knows how to get them.

    Args:
        leaf: anything.

    Returns:
        True for those of `fp.init`.

    Example:
        >>> is_deferred(torch.empty(2, device="meta"))
        False
    """
    return hasattr(leaf, _NOTE)


def with_gradient(leaf: Tensor, trained: bool) -> Tensor:
    """The same leaf, over the same memory, that requires a gradient or does not.

    Args:
        leaf: any tensor; not changed.
        trained: whether it requires a gradient.

    Returns:
        A new tensor; one without values stays without.

    Example:
        >>> with_gradient(torch.ones(1), True)
        tensor([1.], requires_grad=True)
    """
    if is_deferred(leaf):
        return deferred(getattr(leaf, _NOTE), leaf, trained)
    return leaf.detach().requires_grad_(trained)


def made(leaf: Tensor) -> Tensor:
    """A leaf's values, without a gradient; a leaf that has them already is itself.

    Args:
        leaf: any tensor.

    Returns:
        New values each time, for a leaf without.

    Example:
        >>> made(torch.ones(1))
        tensor([1.])
    """
    return getattr(leaf, _NOTE)().detach() if is_deferred(leaf) else leaf


def materialise(tree: Tree) -> Tree:
    """Gives values to all leaves that `fp.init` has left without, on this process.

    Args:
        tree: a pytree of tensors, such as the parameters that `fp.init` returns.

    Returns:
        The same tree; a leaf that had values is the same tensor.

    Example:
        >>> import funpipe as fp
        >>> _, params, _ = fp.init(lambda: torch.nn.Linear(3, 2), key=0)
        >>> params["weight"].device.type, fp.materialise(params)["weight"].device.type
        ('meta', 'cpu')
    """
    return optree.tree_map(lambda leaf: made(leaf).requires_grad_(leaf.requires_grad), tree)
