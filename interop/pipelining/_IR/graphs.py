"""Copies of graphs."""

from collections.abc import Mapping
from typing import Any

from torch import fx

_KEPT = ("nn_module_stack", "stack_trace", "val")


def copied(graph: fx.Graph) -> fx.Graph:
    """A graph with the same nodes, names and what is kept of their metadata."""
    new = fx.Graph()
    values: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        values[node] = copy_into(new, node, values)
    return new


def copy_into(graph: fx.Graph, node: fx.Node, values: Mapping[fx.Node, Any], kept: tuple[str, ...] = _KEPT) -> fx.Node:
    """Appends a copy of a node.

    Args:
        graph: where to.
        node: the node.
        values: for each node that it reads the one to read there.
        kept: the keys of its metadata that the copy has, too.
    """
    copy = graph.node_copy(node, lambda read: values[read])
    copy.meta = {key: node.meta[key] for key in kept if key in node.meta}
    return copy


def before_calls(graph: fx.Graph) -> Any:
    """A context in which new nodes go behind the last placeholder."""
    first = next(node for node in graph.nodes if node.op != "placeholder")
    return graph.inserting_before(first)
