"""The graph that autograd runs: which of its nodes lead to a stage's inputs, and which to its weights alone.

Terms:
    node: one operator's backward; its children are the nodes that its results go to.
    leaf: the node that adds a gradient to a tensor's `.grad`.
    path: the nodes that compute the gradients of the inputs; on it each node's parents are on it too.
    border of a leaf: the nodes of the path whose children off the path lead to the leaf. From the gradients that
        arrive there, the leaf's gradient is computed without anything of the path again.
"""

from collections.abc import Iterable, Sequence

import torch
from torch.autograd.graph import Node, get_gradient_edge


def children(node: Node) -> list[Node]:
    """The nodes that a node's results go to."""
    return [child for child, _ in node.next_functions if child is not None]


def children_first(roots: Iterable[Node], stop: frozenset[Node] = frozenset()) -> list[Node]:
    """All nodes below the roots, children before parents; what is below the nodes of `stop` is left out."""
    order: dict[Node, None] = {}
    stack = [(root, False) for root in roots]
    while stack:
        node, done = stack.pop()
        if done:
            order[node] = None
        elif node not in order:
            stack.append((node, True))
            stack.extend((child, False) for child in (() if node in stop else children(node)) if child not in order)
    return list(order)


def leading_to(nodes: Sequence[Node], targets: frozenset[Node]) -> set[Node]:
    """The nodes that lead to a target, targets included; `nodes` has children first."""
    leading: set[Node] = set()
    for node in nodes:
        if node in targets or any(child in leading for child in children(node)):
            leading.add(node)
    return leading


def beyond_single_weights(nodes: Sequence[Node]) -> set[Node]:
    """The path of a stage whose inputs need no gradient: all but single chains of operators down to one leaf.

    A chain is what is done to a weight before it is used, a transpose or a cast, or the stage's first operator. Where
    a chain is more than that, its work is done later than it could be, and is right all the same.
    """
    chains: set[Node] = set()
    for node in nodes:
        below = children(node)
        if not below or (len(below) == 1 and below[0] in chains):
            chains.add(node)
    return set(nodes) - chains


def borders(
    nodes: Sequence[Node], path: set[Node], leaves: frozenset[Node], roots: frozenset[Node]
) -> dict[Node, frozenset[Node]]:
    """The border of each leaf; a root off the path that leads to it counts as one of its border."""
    below: dict[Node, frozenset[Node]] = {}
    found: dict[Node, set[Node]] = {leaf: set() for leaf in leaves}
    for node in nodes:
        off = [below[child] for child in children(node) if child in below]
        reached = frozenset().union(*off, {node} & leaves)
        if node not in path:
            below[node] = reached
        for leaf in reached if node in path or node in roots else ():
            found[leaf].add(node)
    return {leaf: frozenset(border) for leaf, border in found.items() if border}


def is_crossed_once(border: frozenset[Node], path: set[Node]) -> bool:
    """Whether no node of a border leads to another one along the path: only then do their gradients add up."""
    return all(_below_on_path(node, path).isdisjoint(border) for node in border) if len(border) > 1 else True


def _below_on_path(node: Node, path: set[Node]) -> set[Node]:
    return set(children_first(child for child in children(node) if child in path)) & path


def is_whole(node: Node) -> bool:
    """Whether a node computes all its results whenever it runs: a function written in Python, or a compiled module."""
    return isinstance(node, torch.autograd.function.BackwardCFunction)


def is_compiled(node: Node) -> bool:
    """Whether a node is the backward of what torch.compile compiled: it runs once, its memory is used up."""
    return is_whole(node) and node.name().startswith("CompiledFunction")


def leaves_below(outputs: Iterable[torch.Tensor], inputs: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """Every leaf that the backward of some outputs gives a gradient, the inputs and what they are cut from left out."""
    roots = [get_gradient_edge(output).node for output in outputs if output.requires_grad]
    ends = frozenset(get_gradient_edge(value).node for value in inputs if value.requires_grad)
    found = (getattr(node, "variable", None) for node in children_first(roots, ends) if node not in ends)
    return [leaf for leaf in found if leaf is not None]
