"""Tensors inside of a transform of `torch.func`: wrappers that only torch's own functions may be given."""

import warnings
from functools import cache

import optree
import torch
from torch import Tensor
from torch.autograd import forward_ad

from funpipe._errors import FunpipeTypeError
from funpipe._typing import Tree


def is_transformed(x: Tensor) -> bool:
    """Whether a tensor is one that `torch.func.vmap`, `grad`, `jvp` or `vjp` gave to the function it transforms.

    Args:
        x: any tensor.

    Example:
        >>> seen = []
        >>> _ = torch.func.vmap(lambda x: seen.append(is_transformed(x)) or x)(torch.ones(2))
        >>> seen, is_transformed(torch.ones(2))
        ([True], False)
    """
    return torch.func.debug_unwrap(x, recurse=False) is not x


def require_plain(tree: Tree, what: str, function: str) -> None:
    """Raises if a transform of `torch.func`, or forward-mode differentiation, is open around a pipelined function.

    A pipeline runs what it has compiled for plain tensors, on other devices too: a transform around it would see
    none of its operations, and call its results constants.

    Args:
        tree: arguments of the function.
        what: they are called.
        function: its name, as `fp.value_and_grad`.

    Raises:
        FunpipeTypeError: a leaf belongs to a transform.

    Example:
        >>> require_plain({"w": torch.ones(2)}, "params", "fp.value_and_grad")
    """
    leaves = [leaf for leaf in optree.tree_leaves(tree) if isinstance(leaf, Tensor)]
    if any(map(is_transformed, leaves)) or any(forward_ad.unpack_dual(x).tangent is not None for x in leaves):
        raise FunpipeTypeError(
            f"{function} was called inside of a transform of torch.func (vmap, grad, jvp or vjp), which cannot see "
            f"into a pipeline: {what} hold tensors of that transform. Transform the loss function instead and pass "
            "the result: fp.ensemble(loss_fn) for vmap over parameters, fp.jvp, fp.linearize or fp.hvp for "
            "derivatives of the loss or of its gradient."
        )


@cache
def load_forward_mode() -> None:
    """Has torch load what forward-mode differentiation needs; the loading itself uses what torch deprecates.

    Example:
        >>> load_forward_mode()
    """
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore", DeprecationWarning)
        forward_ad.make_dual(torch.zeros(()), torch.zeros(()))
