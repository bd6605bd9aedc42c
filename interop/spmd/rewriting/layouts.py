"""Fused updates read memory in order, whatever the strides: what they are given must lie as their parameters do."""

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from funpipe.interop.spmd.rewriting.nested import map_nested
from funpipe.interop.spmd.rewriting.optimizer_block import is_fused

aten = torch.ops.aten


def lay_out_alike(graph: fx.Graph) -> None:
    """Copies each gradient and slot of a fused update that does not lie as the new parameter will.

    torch gives `.grad` of a backward the strides of its parameter; one that a step sets by itself may have others, and
    then the kernels of torch pair the wrong elements.

    Args:
        graph: is changed; its nodes have `meta["val"]`.
    """
    for node in list(graph.nodes):
        if is_fused(node):
            wanted = [new.stride() for new in node.meta["val"][0]]
            args = tuple(_alike(node, given, wanted) for given in node.args)
            if args != node.args:
                node.args = args
                _note(node)


def _alike(node: fx.Node, given: Any, wanted: Sequence[Sequence[int]]) -> Any:
    """A list of one tensor for each parameter, copied where needed; anything else as it is."""
    if not isinstance(given, list | tuple) or len(given) != len(wanted):
        return given
    return [x if _lies(x.meta["val"], w) else _copied(node, x, w) for x, w in zip(given, wanted, strict=True)]


def _lies(value: Tensor, wanted: Sequence[int]) -> bool:
    return value.dim() != len(wanted) or all(
        size == 1 or step == other for size, step, other in zip(value.shape, value.stride(), wanted, strict=True)
    )


def _copied(before: fx.Node, of: fx.Node, wanted: Sequence[int]) -> fx.Node:
    """A copy whose dimensions lie in memory in the order of the wanted strides."""
    order = sorted(range(len(wanted)), key=lambda dim: -wanted[dim])
    back = [order.index(dim) for dim in range(len(order))]
    turned = _call(before, aten.permute.default, (of, order))
    copy = _call(before, aten.clone.default, (turned,), memory_format=torch.contiguous_format)
    return _call(before, aten.permute.default, (copy, back))


def _call(before: fx.Node, target: Any, args: tuple[Any, ...], **kwargs: Any) -> fx.Node:
    with before.graph.inserting_before(before):
        node = before.graph.call_function(target, args, kwargs)
    _note(node)
    return node


def _note(node: fx.Node) -> None:
    """Notes what a node gives now, and what takes its results apart."""
    args, kwargs = map_nested(lambda n: n.meta["val"], (node.args, dict(node.kwargs)))
    node.meta["val"] = node.target(*args, **kwargs)  # type: ignore[operator]
    for user in node.users:
        if user.target is operator.getitem:
            _note(user)
