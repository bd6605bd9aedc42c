"""The inputs that a graph writes to: those of a donated state."""

from collections.abc import Mapping

from funpipe.graphs.effects import is_view, writes
from funpipe.graphs.graph import Graph


def owners_of_memory(graph: Graph) -> Mapping[str, str]:
    """For each view, and each value that is an overwritten one, the value or input whose memory it is."""
    owner: dict[str, str] = {}
    for node in graph.nodes:
        written = writes(node)
        of = written[0] if len(written) == 1 else node.reads[0] if node.reads and is_view(graph, node) else None
        if of is not None:
            owner[node.name] = owner.get(of, of)
    return owner


def overwritten(graph: Graph) -> frozenset[str]:
    """The names of the inputs and values whose memory some node overwrites.

    Args:
        graph: the graph.

    Example:
        >>> import torch
        >>> from funpipe._typing import TensorType
        >>> from funpipe.graphs import Node, Ref
        >>> kind = TensorType((2,), (1,), torch.float32)
        >>> node = Node("add", torch.ops.aten.add_.Tensor, (Ref("state.x"), 1), type=kind)
        >>> overwritten(Graph({"state.x": kind}, (node,), {"state.x": Ref("state.x")}))
        frozenset({'state.x'})
    """
    owner = owners_of_memory(graph)
    return frozenset(owner.get(name, name) for node in graph.nodes for name in writes(node))
