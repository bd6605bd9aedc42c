"""Casts of the batch, which a precision policy puts in front of the loss function, where they are first read."""

import torch
from torch import fx

aten = torch.ops.aten


def late_casts(graph: fx.Graph) -> None:
    """Moves each cast of an input in front of its first reader: else one for the last stage would run on the first.

    Args:
        graph: the tracer's; changed.
    """
    order = {node: at for at, node in enumerate(graph.nodes)}
    for node in list(graph.nodes):
        if node.target is aten._to_copy.default and node.args[0].op == "placeholder" and node.users:
            min(node.users, key=order.__getitem__).prepend(node)
