"""`hvp` and `ggn_vp`: products of the curvature of a pipelined loss with a vector."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from funpipe._api.tangents import with_tangents
from funpipe._api.value_and_grad import value_and_grad
from funpipe._typing import Tree
from funpipe.functional.tangents import curvature, directional, value_of
from funpipe.functional.transformed import require_plain


def hvp(loss_fn: Callable[..., Any], **arguments: Any) -> Callable[..., tuple[Tensor, Tree]]:
    """The product of the Hessian of a pipelined loss with a vector.

    It is the gradient of the derivative along the vector: a forward with tangents and its backward, cut and scheduled
    as any other loss. The vector is a part of the parameter tree, so each rank keeps that of its own stages, and
    nothing but tangents of activations crosses a cut besides the activations.

    Args:
        loss_fn: as for `train_step`; every operation in it needs a derivative in forward mode (fused attention
            kernels have none: choose `torch.nn.attention.SDPBackend.MATH`).
        **arguments: as for `value_and_grad`.

    Returns:
        `f(params, vector, batch, buffers=None, key=None) -> (loss, product)`, on every rank; both trees have the
        structure of the parameters. Frozen leaves are constants: their part of the vector is not read, and of the
        product zero.

    Raises:
        FunpipeTypeError: `f` is called inside of a transform of `torch.func`.
        TreeError: the vector is not like the parameters.

    Example:
        >>> import torch, funpipe as fp
        >>> f = fp.hvp(lambda p, x: (x @ p["w"]).pow(3).sum(), num_microbatches=2, backend="interpret")
        >>> f({"w": torch.ones(2)}, {"w": torch.tensor([1.0, 0.0])}, torch.eye(2))
        (tensor(1.), {'w': tensor([3., 0.])})

    Source: B. Pearlmutter, Fast exact multiplication by the Hessian (1994).
    """
    return _product(directional(loss_fn), "fp.hvp", arguments)


def ggn_vp(
    predict: Callable[..., Any], criterion: Callable[..., Tensor], **arguments: Any
) -> Callable[..., tuple[Tensor, Tree]]:
    """The product of the generalized Gauss-Newton matrix of a pipelined loss with a vector.

    The matrix is JᵀHJ, J the derivative of the outputs by the parameters and H the Hessian of the criterion by the
    outputs: positive semidefinite where the criterion is convex.

    Args:
        predict: `predict(params, batch) -> outputs`, a pytree of tensors; the same rows as the batch.
        criterion: `criterion(outputs, batch) -> loss`, a scalar, the mean over the rows.
        **arguments: as for `value_and_grad`.

    Returns:
        `f(params, vector, batch) -> (loss, product)`, as `hvp`.

    Example:
        >>> import torch, funpipe as fp
        >>> f = fp.ggn_vp(lambda p, x: x @ p["w"], lambda z, x: z.square().sum(), backend="interpret")
        >>> f({"w": torch.ones(2)}, {"w": torch.tensor([1.0, 0.0])}, torch.eye(2))
        (tensor(2.), {'w': tensor([2., 0.])})

    Source: N. Schraudolph, Fast curvature matrix-vector products for second-order gradient descent (2002).
    """
    return _product(curvature(predict, criterion), "fp.ggn_vp", arguments)


def _product(loss_fn: Callable[..., Any], name: str, arguments: dict[str, Any]) -> Callable[..., tuple[Tensor, Tree]]:
    run = value_and_grad(loss_fn, **{**arguments, "has_aux": True})

    def product(params: Tree, vector: Tree, batch: Tree, *args: Any, **keywords: Any) -> tuple[Tensor, Tree]:
        require_plain((params, vector, batch, args, keywords), "its arguments", name)
        (_, aux), grads = run(with_tangents(params, vector), batch, *args, **keywords)
        return value_of(aux), grads["params"]

    return product
