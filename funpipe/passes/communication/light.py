"""Nodes that go where a collective goes: a gradient's division before its start, the view of a part behind its wait.

They cost next to nothing, so they neither hide a transfer nor delay one; but if they stayed, nothing else could move.
"""

import operator
from collections.abc import Callable

import torch

from funpipe.graphs import Graph, Node
from funpipe.graphs.communication import is_start, is_wait
from funpipe.graphs.effects import draws, is_pure, is_view

aten = torch.ops.aten
_COPIES = frozenset({aten.cat.default, aten.clone.default, aten._to_copy.default})


def is_light(graph: Graph, node: Node) -> bool:
    """Whether a node is a view, a part of several results, a copy, element by element of one tensor, or a constant."""
    if node.target is operator.getitem or node.target in _COPIES or is_view(graph, node):
        return True
    tags = getattr(node.target, "tags", ())
    alone = not node.reads or (torch.Tag.pointwise in tags and len(node.reads) == 1)
    return alone and is_pure(node) and not draws(node)


def feeders(graph: Graph, chosen: Callable[[Node], bool] = is_start) -> frozenset[str]:
    """The light nodes that nothing but starts needs.

    Args:
        graph: the graph.
        chosen: which starts count.
    """
    found: set[str] = set()
    for node in reversed(graph.nodes):
        readers = graph.readers(node.name)
        if readers and node.name not in graph.returned and is_light(graph, node):
            if all(chosen(reader) or reader.name in found for reader in readers):
                found.add(node.name)
    return frozenset(found)


def followers(graph: Graph, chosen: Callable[[Node], bool] = is_wait) -> frozenset[str]:
    """The light nodes that need nothing but waits.

    Args:
        graph: the graph.
        chosen: which waits count.
    """
    found: set[str] = set()
    made = {node.name for node in graph.nodes if chosen(node)}
    for node in graph.nodes:
        if node.reads and all(name in made for name in node.reads) and is_light(graph, node):
            found.add(node.name)
            made.add(node.name)
    return frozenset(found)
