"""I: the gradients of a stage's inputs, and what W starts from."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from funpipe.interop.pipelining._backward.cut import Border, Cut, cut
from funpipe.interop.pipelining._backward.paired import Pairs, explained, paired
from funpipe.interop.pipelining._backward.weights import add_to_grad
from funpipe.interop.pipelining._backward.whole import differentiable

Arrived = dict[Node, dict[int, torch.Tensor]]
Gradients = tuple[torch.Tensor | None, ...]


def stage_backward_input(
    stage_outputs_or_loss: Any,
    output_grads: Any,
    input_values: Sequence[Any],
    weights: Iterator[torch.Tensor],
) -> tuple[Gradients, list[dict[str, Any]]]:
    """The gradients of a stage's inputs; those of the weights are left to `stage_backward_weight`.

    Nothing is computed twice. A module compiled by `torch.compile` has one backward for inputs and weights alike, and
    so has an `autograd.Function`: there everything is computed here and the weights' gradients are kept for later. So
    is a weight that is used twice, once below the other. Where no input needs a gradient, this goes down to the first
    weights and no further. Hooks that the user registered on tensors between stages' weights run in both parts.

    Args:
        stage_outputs_or_loss: what the stage returned, of any structure, or its loss.
        output_grads: one gradient for each tensor of it, None for an output that nothing reads; None: it is a loss.
        input_values: the stage's inputs; the gradients of leaves among them are added to their `.grad` too.
        weights: the leaves whose gradients come later.

    Returns:
        One gradient for each input, None for one that is no tensor, needs none or is not used; and for each group of
        weights what their gradients are computed from.

    Raises:
        PipeRuntimeError: autograd failed; the text shows the shapes.

    Example:
        >>> x, w = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
        >>> gradients, groups = stage_backward_input([x * w * 3], [torch.ones(2)], [x], iter([w]))
        >>> gradients, w.grad
        ((tensor([3., 3.]),), None)
    """
    run = lambda: _run(stage_outputs_or_loss, output_grads, input_values, weights)  # noqa: E731
    return explained(run, " input", stage_outputs_or_loss, output_grads, input_values)


def _run(
    outputs: Any, gradients: Any, values: Sequence[Any], weights: Iterator[torch.Tensor]
) -> tuple[Gradients, list[dict[str, Any]]]:
    pairs = paired(outputs, gradients)
    inputs = [value for value in values if differentiable(value)]
    where = cut([output for output, _ in pairs], inputs, weights)
    arrived: Arrived = defaultdict(dict)
    of_inputs, of_weights = _differentiate(pairs, inputs, where, arrived)
    _take_given(pairs, where, arrived)
    found = iter(of_inputs)
    return tuple(next(found) if differentiable(value) else None for value in values), [
        *(_later(border, group, arrived, where) for border, group in where.later.items()),
        *_ready(where.now, of_weights),
    ]


def _differentiate(
    pairs: Pairs, inputs: list[torch.Tensor], where: Cut, arrived: Arrived
) -> tuple[Gradients, Gradients]:
    """Runs the path, keeping what arrives at the cut; the gradients of the inputs and of the weights of `now`."""
    wanted = [*inputs, *where.now, *where.bottom]
    if not pairs or not wanted:
        return (None,) * len(inputs), ()
    outputs, gradients = zip(*pairs, strict=True)
    with ExitStack() as stack:
        for node in where.watched:
            stack.callback(node.register_prehook(_keep(arrived, node)).remove)
        keep = not where.runs_once
        found = torch.autograd.grad(outputs, wanted, gradients, retain_graph=keep, allow_unused=True)
    _take_bottom(where.bottom, found[len(wanted) - len(where.bottom) :], arrived)
    _fill(inputs, found[: len(inputs)])
    return found[: len(inputs)], found[len(inputs) : len(inputs) + len(where.now)]


def _keep(arrived: Arrived, node: Node) -> Callable[[tuple[torch.Tensor, ...]], None]:
    def hook(gradients: tuple[torch.Tensor, ...]) -> None:
        arrived[node] = {slot: gradient for slot, gradient in enumerate(gradients) if gradient is not None}

    return hook


def _take_bottom(edges: list[GradientEdge], gradients: Gradients, arrived: Arrived) -> None:
    for edge, gradient in zip(edges, gradients, strict=True):
        if gradient is not None:
            arrived[edge.node][edge.output_nr] = gradient


def _take_given(pairs: Pairs, where: Cut, arrived: Arrived) -> None:
    """What the outputs that no input leads to were given; the same output may be there twice."""
    for output, gradient in pairs:
        edge = get_gradient_edge(output)
        if edge.node in where.given:
            own = torch.ones_like(output) if gradient is None else gradient
            known = arrived[edge.node].get(edge.output_nr)
            arrived[edge.node][edge.output_nr] = own if known is None else known + own


def _fill(inputs: list[torch.Tensor], gradients: Gradients) -> None:
    """As a whole backward would: `.grad` of leaves, also of those that an input was cut out of."""
    cut_out = []
    for value, gradient in zip(inputs, gradients, strict=True):
        if gradient is not None and value.is_leaf:
            add_to_grad(value, gradient)
        elif gradient is not None:
            cut_out.append((value, gradient))
    if cut_out:
        started, given = zip(*cut_out, strict=True)
        torch.autograd.backward(started, given, retain_graph=True)


def _later(border: Border, weights: list[torch.Tensor], arrived: Arrived, where: Cut) -> dict[str, Any]:
    nodes = [node for node in border if node in arrived]
    shared = any(other != border and not other.isdisjoint(border) for other in where.later)
    return {
        "params": weights,
        "intermediates": nodes,
        "grads": [arrived[node] for node in nodes],
        "shares_nodes": shared,
    }


def _ready(weights: list[torch.Tensor], gradients: Gradients) -> list[dict[str, Any]]:
    groups = zip(weights, gradients, strict=True) if gradients else ()
    return [{"params": [weight], "ready": gradient} for weight, gradient in groups if gradient is not None]
