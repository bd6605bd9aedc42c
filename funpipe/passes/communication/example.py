"""The step that the examples of these passes show: two gradients, summed over replicas, two updates."""

import torch

from funpipe._typing import TensorType
from funpipe.functional.communication import OPERATORS, WAIT
from funpipe.graphs import Graph, Node, Ref

aten = torch.ops.aten


def example(size: int = 64) -> Graph:
    """A step that computes two gradients, sums both over the replicas, and updates two parameters.

    Args:
        size: rows and columns of each matrix.

    Returns:
        The graph; its inputs are `batch`, `state.1` and `state.2`.

    Example:
        >>> print(example().as_text().splitlines()[3])
        g2: float32[64,64] = aten.mm.default(%batch, %state.2)
    """
    kind = TensorType((size, size), (size, 1), torch.float32)
    nodes = [Node(f"g{i}", aten.mm.default, (Ref("batch"), Ref(f"state.{i}")), type=kind) for i in (2, 1)]
    start = OPERATORS.all_reduce.default
    nodes += [Node(f"p{i}", start, (Ref(f"g{i}"), "sum", "dp"), type=kind) for i in (2, 1)]
    nodes += [Node(f"w{i}", WAIT, (Ref(f"p{i}"),), type=kind) for i in (2, 1)]
    nodes += [Node(f"u{i}", aten.sub.Tensor, (Ref(f"state.{i}"), Ref(f"w{i}")), type=kind) for i in (2, 1)]
    inputs: list[str] = ["batch", "state.1", "state.2"]
    return Graph(dict.fromkeys(inputs, kind), tuple(nodes), {f"state.{i}": Ref(f"u{i}") for i in (1, 2)})
