"""Who reads, in the forward of the next step, the leaves of the state that moved work makes.

A view (`t`, `detach`) computes nothing: it runs with whatever reads it, and that is the reader.
"""

from collections.abc import Iterator

from funpipe.graphs import Graph, Node, Ref
from funpipe.interop.spmd.errors import SpmdValueError
from funpipe.passes.rotation.views import base_of

STATE = "state."


def late_leaves(graph: Graph, moved: frozenset[str]) -> frozenset[str]:
    """The leaves of the state that nodes make, by the names of the inputs that they are in the next step.

    Args:
        graph: the step.
        moved: the names of the nodes.
    """
    made = {name: value for name, value in graph.outputs.items() if isinstance(value, Ref) and value.name in moved}
    return frozenset(name for name in made if name.startswith(STATE))


def views_of(graph: Graph, names: frozenset[str]) -> dict[str, str]:
    """The nodes that are views of inputs, or views of these, each with its input.

    Args:
        graph: the step.
        names: of the inputs.
    """
    bases = ((node.name, base_of(graph, node.name)) for node in graph.nodes)
    return {name: base for name, base in bases if base in names}


def with_views_at_readers(graph: Graph, views: dict[str, str]) -> Graph:
    """The graph with each of these views in front of its first reader; those that nothing reads come last.

    Args:
        graph: the step.
        views: names of views of inputs.
    """
    waiting = {node.name: node for node in graph.nodes if node.name in views}
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name not in views:
            nodes += [*_taken(node, waiting), node]
    return graph.replace(nodes=(*nodes, *waiting.values()))


def _taken(node: Node, waiting: dict[str, Node]) -> Iterator[Node]:
    """The views that a node needs and that no node before it has needed."""
    for name in node.reads:
        if name in waiting:
            view = waiting.pop(name)
            yield from _taken(view, waiting)
            yield view


def require_no_reader(graph: Graph, moved: frozenset[str], views: dict[str, str], target: str, called: str) -> None:
    """Raises if something in front of a node reads what moved work makes, in the step after its own.

    Args:
        graph: the step.
        moved: the names of the nodes that move.
        views: the views of the leaves that they make.
        target: the name of the node that they are to stand before.
        called: the node that whoever moves them named.

    Raises:
        SpmdValueError: there is such a node; the text names it.
    """
    for node, leaf in _readers(graph, moved, views, target):
        raise SpmdValueError(
            f"{_shown(graph, moved)} cannot be moved to the next iteration before {called!r}: {node.where} stands in "
            f"front of it and reads {leaf.removeprefix(STATE)!r}, which they make, so it would read a stale value. "
            f"Move them before {node.name!r} or a node in front of it, or leave out what makes this leaf."
        )


def _readers(graph: Graph, moved: frozenset[str], views: dict[str, str], target: str) -> Iterator[tuple[Node, str]]:
    """The nodes in front of a target that read leaves that moved work makes, each with such a leaf."""
    leaves = late_leaves(graph, moved)
    for node in graph.nodes[: graph.positions[target]]:
        if node.name not in views and node.name not in moved:
            yield from ((node, leaf) for name in node.reads if (leaf := views.get(name, name)) in leaves)


def _shown(graph: Graph, moved: frozenset[str]) -> str:
    names = [node.name for node in graph.nodes if node.name in moved]
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"


def settled(graph: Graph, views: dict[str, str], target: str) -> str:
    """The node that work is to stand before, if it is to stand before a target and the views that this reads.

    Args:
        graph: the step, each of the views in front of its first reader.
        views: names of views.
        target: the name of a node; where it is a view, its reader is meant.

    Raises:
        SpmdValueError: there is no such node.
    """
    if target not in graph.positions:
        raise SpmdValueError(
            f"{target!r} computes nothing that moved work can stand before; name an operator of the forward."
        )
    at = graph.positions[target]
    while at and graph.nodes[at - 1].name in views:
        at -= 1
    return graph.nodes[at].name
