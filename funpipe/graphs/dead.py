"""What no output needs may go, unless another rank relies on it."""

from funpipe.graphs.bound import bound
from funpipe.graphs.effects import is_pure
from funpipe.graphs.graph import Graph


def eliminate_dead(graph: Graph) -> Graph:
    """Without nodes that no output needs; messages and in-place operators stay.

    A collective whose result nobody reads goes, its wait with it, where every rank of its axis runs this graph. Along
    "pp" and "world" of a pipelined graph it stays: another rank takes part in it.

    Args:
        graph: the graph.

    Returns:
        The graph; the same one if there is nothing to leave out.

    Example:
        >>> import torch
        >>> from torch.fx.experimental.proxy_tensor import make_fx
        >>> from funpipe.graphs import from_fx
        >>> graph = from_fx(make_fx(lambda x: (x.sin(), x.cos())[0], tracing_mode="fake")(torch.ones(2)).graph)
        >>> [node.name for node in graph.nodes], [node.name for node in eliminate_dead(graph).nodes]
        (['sin', 'cos'], ['sin'])
    """
    needed = set(graph.returned | bound(graph))
    kept = []
    for node in reversed(graph.nodes):
        if node.name in needed or not is_pure(node):
            needed.update(node.reads)
            kept.append(node)
    return graph if len(kept) == len(graph.nodes) else graph.replace(nodes=tuple(reversed(kept)))
