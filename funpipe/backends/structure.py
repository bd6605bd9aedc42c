"""What a graph computes, as text without the names of its values: equal stages have regions of equal structure."""

from collections.abc import Sequence

from torch import fx
from torch.fx.node import map_arg

from funpipe._typing import TensorType


def structure(graph: fx.Graph, types: Sequence[TensorType]) -> str:
    """A text that two graphs share exactly if they do the same to arguments of the same types.

    Args:
        graph: flat tensors in, a tuple of tensors out.
        types: of its placeholders.

    Returns:
        One line for the types, one for each operation.

    Example:
        >>> import torch
        >>> one, other = fx.symbolic_trace(lambda x: x + 1).graph, fx.symbolic_trace(lambda y: y + 1).graph
        >>> kind = TensorType((2,), (1,), torch.float32)
        >>> structure(one, [kind]) == structure(other, [kind])
        True
    """
    number = {node: i for i, node in enumerate(graph.nodes)}
    return "\n".join([str([(t, t.stride, t.device) for t in types]), *(_line(node, number) for node in graph.nodes)])


def _line(node: fx.Node, number: dict[fx.Node, int]) -> str:
    args, kwargs = (map_arg(part, lambda n: f"%{number[n]}") for part in (node.args, node.kwargs))
    return f"{node.op} {'' if node.op == 'placeholder' else node.target} {args} {kwargs}"
