"""Tensors that a graph closes over become inputs: code is kept by what it computes, whatever the values of these."""

from torch import Tensor, fx

from funpipe._typing import TensorType
from funpipe.backends.emit import Graph


def lifted(graph: Graph) -> tuple[Graph, tuple[Tensor, ...]]:
    """A graph that closes over nothing.

    Args:
        graph: may close over tensors; an optimizer that calls `torch.tensor(0.9)` makes one that does.

    Returns:
        A graph with the tensors as inputs behind its own, and the tensors; the graph itself if there are none.

    Example:
        >>> import torch
        >>> from torch.fx.experimental.proxy_tensor import make_fx
        >>> x = torch.zeros(3)
        >>> module = make_fx(lambda x: (x + torch.tensor(0.9),), tracing_mode="fake")(x)
        >>> made, constants = lifted(Graph(module, (TensorType.of(x),)))
        >>> constants, len(made.types), made.module(x, *constants)
        ((tensor(0.9000),), 2, (tensor([0.9000, 0.9000, 0.9000]),))
    """
    constants = {n: getattr(graph.module, str(n.target)) for n in graph.module.graph.find_nodes(op="get_attr")}
    if not constants:
        return graph, ()
    new, copies = fx.Graph(), {}
    for node in graph.module.graph.find_nodes(op="placeholder"):
        copies[node] = new.node_copy(node)
    for i, (node, value) in enumerate(constants.items()):
        copies[node] = new.placeholder(f"constant{i}")
        copies[node].meta["val"] = value
    for node in graph.module.graph.nodes:
        if node not in copies:
            copies[node] = new.node_copy(node, copies.__getitem__)
    types = (*graph.types, *(TensorType.of(value) for value in constants.values()))
    return Graph(fx.GraphModule({}, new), types), tuple(constants.values())
