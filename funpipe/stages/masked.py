"""Operators that give several gradients, and take a mask of those that are wanted: a convolution's backward."""

import torch
from torch import fx

aten = torch.ops.aten

MASKED = frozenset({aten.convolution_backward.default})
"""Operators whose last argument says which results are computed, each by a product of its own."""


def taken_apart(graph: fx.Graph, ahead: set[fx.Node]) -> None:
    """Gives what is wanted later of an operator's results to a second call of it; the mask of each says what it makes.

    Args:
        graph: changed.
        ahead: the nodes that are computed first. An operator is in it if any of its results is.
    """
    for node in [n for n in graph.nodes if n in ahead and n.target in MASKED]:
        later = [item for item in node.users if item not in ahead and item.users]
        if later:
            first = {item.args[1] for item in node.users if item in ahead}
            with graph.inserting_after(node):
                second = graph.node_copy(node)
            _mask(second, {item.args[1] for item in later})
            _mask(node, first)
            for item in later:
                item.replace_input_with(node, second)


def _mask(node: fx.Node, wanted: set) -> None:
    """Leaves of an operator's results those that are wanted."""
    *others, mask = node.args
    kept = [asked and i in wanted for i, asked in enumerate(mask)]  # type: ignore[arg-type]
    node.args = (*others, kept)
    node.meta["val"] = tuple(value if keep else None for value, keep in zip(node.meta["val"], kept, strict=True))
