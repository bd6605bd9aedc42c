"""What collectives must have in common to become one."""

from typing import Any

from funpipe.graphs import Graph, Node
from funpipe.graphs.communication import is_message
from funpipe.graphs.node import given, refs_in

Key = tuple[Any, ...]
"""What collectives of one group have in common: operator, reduction, axis, dtype, device, and `seen`."""


def seen(graph: Graph) -> frozenset[str]:
    """The nodes that something besides the new state depends on: an output of the caller's, another rank.

    A loss and gradients share no bucket, so that what only the state needs can be put off to the next step (`rotate`).

    Args:
        graph: the graph.
    """
    outputs = {name: value for name, value in graph.outputs.items() if not name.startswith("state.")}
    found = {ref.name for ref in refs_in(outputs)}
    for node in reversed(graph.nodes):
        if node.name in found or is_message(node):
            found.update((node.name, *node.reads))
    return frozenset(found)


def numbers_of(start: Node) -> dict[str, Any]:
    """The arguments of a start besides its tensor, by name and in the operator's order: reduction, axis, ranks.

    Args:
        start: a start of one tensor.
    """
    numbers = given(start)
    return {argument.name: numbers[argument.name] for argument in start.target._schema.arguments[1:]}


def key_of(graph: Graph, start: Node) -> Key:
    """What a start must have in common with others to be merged with them.

    Args:
        graph: the graph.
        start: one of its starts.
    """
    kind = graph.type_of(start.reads[0])
    return (start.target, tuple(sorted(numbers_of(start).items())), kind.dtype, kind.device)
