"""Loss functions made of a loss function: its derivative along a direction, and its curvature.

The direction is a part of the parameter tree, so that a pipeline keeps each leaf's direction where it keeps the leaf.
"""

from collections.abc import Callable, Mapping
from typing import Any

import optree
import torch
from torch import Tensor

from funpipe._typing import Tree
from funpipe.functional.loss import Out, Weighted, normalize
from funpipe.functional.normalizations import WrittenOut
from funpipe.functional.reducers import Reduced, mean, sum
from funpipe.functional.transformed import load_forward_mode
from funpipe.functional.tree import named_leaves, unflatten_named
from funpipe.functional.wrapped import with_keywords_of


def directional(loss_fn: Callable[..., Any]) -> Callable[..., Out]:
    """The derivative of a loss function along a direction, as a loss function.

    Args:
        loss_fn: a loss function, `loss_fn(params, batch)`, with the keywords that it names.

    Returns:
        `f({"params": params, "tangents": {name: tensor}}, batch) -> fp.Out`, whose loss is the derivative along the
        tangents, weighted as the loss is, and whose aux says what the loss is (`value_of` reads it). Leaves
        without a tangent are constants.

    Example:
        >>> f = directional(lambda p, x: (p["w"] * x).square().sum())
        >>> given = {"params": {"w": torch.tensor([1.0, 2.0])}, "tangents": {"w": torch.tensor([1.0, 0.0])}}
        >>> f(given, torch.ones(2)).loss
        tensor(2.)

    Source: B. Pearlmutter, Fast exact multiplication by the Hessian (1994): the operator R.
    """

    def derivative(given: Any, batch: Tree, **keywords: Any) -> Out:
        load_forward_mode()
        named, spec = named_leaves(given["params"])
        tangents = given["tangents"]

        def moved(leaves: dict[str, Tensor]) -> tuple[Tensor, tuple[list[Tensor], list[Tensor]]]:
            with WrittenOut():
                out = normalize(loss_fn(unflatten_named(spec, named | leaves), batch, **keywords))
            weight = [] if out.weight is None else [out.weight]
            return out.loss_sum, (weight, optree.tree_leaves(out.buffers))

        start = {name: named[name] for name in tangents}
        found: Any = torch.func.jvp(moved, (start,), (dict(tangents),), has_aux=True)
        value, slope, (weight, held) = found
        buffers = optree.tree_unflatten(optree.tree_structure(keywords["buffers"]), held) if held else None
        return _out(value, slope, weight[0] if weight else None, buffers)

    return with_keywords_of(loss_fn, derivative)


def curvature(predict: Callable[..., Any], criterion: Callable[..., Tensor]) -> Callable[..., Out]:
    """A loss function whose gradient is the product of the Gauss-Newton matrix with the tangents.

    Args:
        predict: `predict(params, batch) -> outputs`, a pytree of tensors.
        criterion: `criterion(outputs, batch) -> loss`, a scalar, twice differentiable in the outputs.

    Returns:
        `f({"params": params, "tangents": {name: tensor}}, batch) -> fp.Out`.

    Example:
        >>> f = curvature(lambda p, x: x @ p["w"], lambda z, x: z.square().sum())
        >>> given = {"params": {"w": torch.ones(2)}, "tangents": {"w": torch.tensor([1.0, 0.0])}}
        >>> torch.func.grad(lambda p: f({**given, "params": p}, torch.eye(2)).loss)(given["params"])["w"]
        tensor([2., 0.])

    Source: N. Schraudolph, Fast curvature matrix-vector products for second-order gradient descent (2002).
    """

    def product(given: Any, batch: Tree) -> Out:
        load_forward_mode()
        named, spec = named_leaves(given["params"])
        tangents = given["tangents"]
        start = {name: named[name] for name in tangents}

        def moved(leaves: dict[str, Tensor]) -> Any:
            return predict(unflatten_named(spec, named | leaves), batch)

        found: Any = torch.func.jvp(moved, (start,), (dict(tangents),))
        outputs, moves = found
        fixed = optree.tree_map(Tensor.detach, outputs)
        pulled = torch.func.jvp(torch.func.grad(lambda z: criterion(z, batch)), (fixed,), (moves,))[1]
        pairs = zip(optree.tree_leaves(outputs), optree.tree_leaves(pulled), strict=True)
        inner = torch.stack([(z * p.detach()).sum() for z, p in pairs]).sum()
        return _out(criterion(fixed, batch), inner, None, None)

    return product


def value_of(aux: Mapping[str, Tensor]) -> Tensor:
    """The loss itself, from the aux of `directional` or `curvature`.

    Args:
        aux: combined over the microbatches.
    """
    value = aux["value"]
    return (value / aux["total"]).to(value.dtype) if "total" in aux else value


def _out(value: Tensor, slope: Tensor, weight: Tensor | None, buffers: Any) -> Out:
    if weight is None:
        return Out(slope, {"value": mean(value)}, buffers)
    aux: dict[str, Reduced] = {"value": sum(value), "total": sum(weight)}
    return Out(Weighted(slope, weight), aux, buffers)
