"""Which nodes other ranks rely on one by one.

All ranks must start the collectives of an axis in the same order. What a pass may reorder follows from who runs what:

    data parallel    all ranks run the same graph: any order that is derived from the graph alone is the same on all
    pipelined        ranks of an axis "dp" run the same graph, ranks of "pp" and "world" do not

Let all replicas of a pipelined step run in lockstep, node by node: then a collective along "dp" never waits, wherever
it stands. A step that ends without it also ends with it, since no rank's result depends on how fast another one is. So
along "dp" starts and waits move freely; messages, and what is started or waited for along other axes of a pipelined
graph, keep their order among themselves, and none of them goes.
"""

from funpipe.graphs.communication import axis_of, is_message, is_start, is_wait
from funpipe.graphs.graph import Graph
from funpipe.graphs.node import Node


def start_of(graph: Graph, wait: Node) -> Node | None:
    """The start that a wait waits for; None if an earlier step started it.

    Args:
        graph: the graph.
        wait: one of its waits.
    """
    node = graph.by_name.get(wait.reads[0])
    while node is not None and not is_start(node):
        node = graph.by_name.get(node.reads[0]) if node.reads else None
    return node


def is_pipelined(graph: Graph) -> bool:
    """Whether ranks of a pipeline run other graphs: the graph says so, or sends messages.

    Args:
        graph: the graph of one rank.
    """
    return graph.pipelined or any(map(is_message, graph.nodes))


def bound(graph: Graph) -> frozenset[str]:
    """The nodes that keep their order among themselves, because other ranks run other graphs.

    Args:
        graph: the graph of one rank.

    Returns:
        Their names; none if all ranks run this graph.
    """
    if not is_pipelined(graph):
        return frozenset()
    return frozenset(node.name for node in graph.nodes if _is_bound(graph, node))


def _is_bound(graph: Graph, node: Node) -> bool:
    if is_wait(node):
        start = start_of(graph, node)
        return start is None or axis_of(start) != "dp"
    return is_message(node) or (is_start(node) and axis_of(node) != "dp")
