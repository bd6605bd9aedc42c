"""Where a backward is cut in two: what the inputs' part computes, and what the weights' part starts from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from funpipe.interop.pipelining._backward.graph import (
    beyond_single_weights,
    borders,
    children,
    children_first,
    is_compiled,
    is_crossed_once,
    is_whole,
    leading_to,
)

Border = frozenset[Node]


@dataclass(frozen=True)
class Cut:
    """A backward in two parts.

    Args:
        later: the weights of the second part, by their border.
        now: weights whose gradients come out of the first part: of functions that compute everything at once, and those
            used twice, one use below the other.
        runs_once: whether the first part uses up the graph: some of it is compiled.
        watched: nodes that the first part runs and whose arriving gradients the second part starts from.
        bottom: the ends of the path where no input needs a gradient; what arrives there is asked for by its edges.
        given: roots off the path, whose gradients are those of the outputs.
    """

    later: dict[Border, list[torch.Tensor]]
    now: list[torch.Tensor]
    runs_once: bool
    watched: set[Node]
    bottom: list[GradientEdge]
    given: set[Node]


def cut(outputs: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor], weights: Iterable[torch.Tensor]) -> Cut:
    """Where to cut the backward of some outputs.

    Args:
        outputs: what it starts from, each with a backward.
        inputs: tensors whose gradients the first part computes, each with `requires_grad`.
        weights: leaves whose gradients may come later; those without `requires_grad` are left out.
    """
    roots = frozenset(get_gradient_edge(output).node for output in outputs)
    ends = frozenset(get_gradient_edge(value).node for value in inputs)
    nodes = children_first(roots, ends)
    reached = ends.intersection(nodes)
    path = leading_to(nodes, reached) if reached else beyond_single_weights(nodes)
    bottom = set() if reached else {node for node in path if path.isdisjoint(children(node))}
    leaves = {get_gradient_edge(weight).node: weight for weight in weights if weight.requires_grad}
    found = borders(nodes, path, frozenset(leaves) - ends, roots)
    later, now = _in_groups(found, leaves, path, path - bottom)
    runs_once = any(is_compiled(node) for node in (nodes if now else path - bottom))
    if runs_once:
        later, now = {}, [leaves[leaf] for leaf in found]
    started = set().union(*later)
    edges = _edges(nodes, outputs, bottom)
    return Cut(later, now, runs_once, (started & path) - bottom, edges, started - path)


def _in_groups(
    found: dict[Node, Border], leaves: dict[Node, torch.Tensor], path: set[Node], run: set[Node]
) -> tuple[dict[Border, list[torch.Tensor]], list[torch.Tensor]]:
    later: dict[Border, list[torch.Tensor]] = {}
    now: list[torch.Tensor] = []
    for leaf, border in found.items():
        if any(is_whole(node) for node in border & run) or not is_crossed_once(border, path):
            now.append(leaves[leaf])
        else:
            _join(later, border, leaves[leaf], path)
    return later, now


def _join(later: dict[Border, list[torch.Tensor]], border: Border, weight: torch.Tensor, path: set[Node]) -> None:
    """Puts a weight with those that share a node with it, so that the node runs once, where their gradients add up."""
    weights = [weight]
    for other in [other for other in later if not other.isdisjoint(border)]:
        if is_crossed_once(other | border, path):
            border, weights = other | border, later.pop(other) + weights
    later[border] = later.get(border, []) + weights


def _edges(nodes: Sequence[Node], outputs: Sequence[torch.Tensor], ends: set[Node]) -> list[GradientEdge]:
    """The edges by which gradients arrive at some nodes, each once."""
    inner = [(child, slot) for node in nodes for child, slot in node.next_functions if child in ends]
    outer = [(edge.node, edge.output_nr) for edge in map(get_gradient_edge, outputs) if edge.node in ends]
    return [GradientEdge(node, slot) for node, slot in dict.fromkeys(inner + outer)]
