"""The memory that an order of nodes takes."""

import operator
from itertools import accumulate

from funpipe.graphs import Graph, Node
from funpipe.graphs.bound import start_of
from funpipe.graphs.communication import is_wait
from funpipe.graphs.effects import is_view
from funpipe.graphs.graph import require_graph
from funpipe.passes.communication.cost_model import nbytes


def peak_bytes(graph: Graph) -> int:
    """The most bytes of values that are alive at one time, inputs not counted.

    A view lives in the memory of what it is a view of. What a collective takes lives until its wait, what it gives from
    its start on.

    Args:
        graph: the graph.

    Returns:
        Bytes.

    Example:
        >>> from funpipe.passes.communication.example import example
        >>> peak_bytes(example()) / (4 * 64 * 64)
        4.0
    """
    require_graph(graph, "peak_bytes")
    ends, owner = _ends(graph), _owners(graph)
    changes = [0] * (len(graph.nodes) + 1)
    for at, node in enumerate(graph.nodes):
        if owner[node.name] == node.name:
            changes[at] += nbytes(node.type)
            changes[ends.get(node.name, at) + 1] -= nbytes(node.type)
    return max(accumulate(changes), default=0)


def _owners(graph: Graph) -> dict[str, str]:
    """The value whose memory each value lies in."""
    owner = {name: name for name in graph.inputs}
    for node in graph.nodes:
        owner[node.name] = owner[node.reads[0]] if _shares(graph, node) else node.name
    return owner


def _shares(graph: Graph, node: Node) -> bool:
    """Whether a node takes no memory of its own."""
    if not node.reads:
        return False
    return node.target is operator.getitem or is_wait(node) or is_view(graph, node)


def _ends(graph: Graph) -> dict[str, int]:
    """For each owner of memory the last position at which it is needed."""
    owner, ends = _owners(graph), dict[str, int]()
    for at, node in enumerate(graph.nodes):
        start = start_of(graph, node) if is_wait(node) else None
        for name in (*node.reads, *(start.reads if start is not None else ())):
            ends[owner[name]] = at
    return ends | {owner[name]: len(graph.nodes) - 1 for name in graph.returned}
