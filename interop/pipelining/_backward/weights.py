"""W: the gradients of a stage's weights, from what I kept."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd.graph import GradientEdge


def stage_backward_weight(
    weights: Iterator[torch.Tensor], param_groups: list[dict[str, Any]], retain_graph: bool = False
) -> tuple[torch.Tensor | None, ...]:
    """Adds the weights' gradients of one microbatch to their `.grad`.

    Args:
        weights: the weights; those that `stage_backward_input` was not given are left alone.
        param_groups: what `stage_backward_input` returned; used up unless `retain_graph`.
        retain_graph: whether the groups are used again.

    Returns:
        `.grad` of each weight.

    Example:
        >>> from funpipe.interop.pipelining._backward import stage_backward_input
        >>> x, w = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
        >>> _, groups = stage_backward_input([x * w * 3], [torch.ones(2)], [x], iter([w]))
        >>> stage_backward_weight(iter([w]), groups)
        (tensor([3., 3.]),)
    """
    asked = list(weights)
    ids = {id(weight) for weight in asked}
    for group in param_groups:
        group_weights = [weight for weight in group["params"] if id(weight) in ids]
        if group_weights:
            _add(group, group_weights, retain_graph)
    if not retain_graph:
        param_groups.clear()
    return tuple(weight.grad for weight in asked)


def _add(group: dict[str, Any], weights: list[torch.Tensor], retain_graph: bool) -> None:
    if "ready" in group:
        add_to_grad(weights[0], group["ready"])
        return
    started = zip(group["intermediates"], group["grads"], strict=True)
    edges = {GradientEdge(node, slot): gradient for node, found in started for slot, gradient in found.items()}
    if edges:
        keep = retain_graph or group["shares_nodes"]
        torch.autograd.backward(list(edges), list(edges.values()), retain_graph=keep, inputs=weights)


def add_to_grad(leaf: torch.Tensor, gradient: torch.Tensor) -> None:
    """Adds to a leaf's `.grad`; a first gradient is copied: autograd hands out the same tensor for several leaves."""
    gradient = gradient.detach()
    leaf.grad = gradient.clone() if leaf.grad is None else leaf.grad + gradient
