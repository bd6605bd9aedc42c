"""Which nodes communicate, and which of them must keep their order."""

from funpipe.functional.communication import MESSAGES, STARTS, WAIT
from funpipe.graphs.graph import Graph
from funpipe.graphs.node import Node, given


def is_start(node: Node) -> bool:
    """Whether a node starts a collective."""
    return node.target in STARTS


def is_wait(node: Node) -> bool:
    """Whether a node waits for a collective."""
    return node.target is WAIT


def is_message(node: Node) -> bool:
    """Whether a node sends or receives, or waits for either."""
    return node.target in MESSAGES


def is_communication(node: Node) -> bool:
    """Whether a node does any of it."""
    return is_start(node) or is_wait(node) or is_message(node)


def axis_of(node: Node) -> str:
    """The mesh axis of a start: `"dp"`, `"pp"` or `"world"`."""
    return str(given(node)["axis"])


def channel(node: Node) -> str | None:
    """Nodes of one channel keep their order, which is how all ranks agree on it: starts on one axis, and messages.

    A wait is in none: it does not matter to other ranks when a rank waits.
    """
    if is_start(node):
        return axis_of(node)
    return "messages" if is_message(node) else None


def channels(graph: Graph) -> dict[str, tuple[str, ...]]:
    """The names of the nodes of each channel, in order."""
    found: dict[str, list[str]] = {}
    for node in graph.nodes:
        name = channel(node)
        if name is not None:
            found.setdefault(name, []).append(node.name)
    return {name: tuple(names) for name, names in found.items()}
