"""Looking for nodes: by a predicate, and all that depends on some."""

from collections.abc import Callable, Iterable

from funpipe._errors import FunpipeTypeError, GraphError
from funpipe.graphs.graph import Graph, require_graph
from funpipe.graphs.near import near
from funpipe.graphs.node import Node

Predicate = Callable[[Node], bool]
"""Says of a node whether it is looked for."""


def find(graph: Graph, predicate: Predicate) -> tuple[Node, ...]:
    """All nodes of a kind, in order; none is no error.

    Args:
        graph: the graph.
        predicate: whether a node is looked for.

    Returns:
        The nodes.

    Example:
        >>> import torch
        >>> from torch.fx.experimental.proxy_tensor import make_fx
        >>> from funpipe.graphs import from_fx
        >>> graph = from_fx(make_fx(lambda x: (x + 1 + 2,), tracing_mode="fake")(torch.ones(2)).graph)
        >>> [node.name for node in find(graph, lambda node: "add" in node.name)]
        ['add', 'add_1']
    """
    require_graph(graph, "find")
    return tuple(node for node in graph.nodes if predicate(node))


def one(graph: Graph, predicate: Predicate, what: str = "node") -> Node:
    """The only node of a kind.

    Args:
        graph: the graph.
        predicate: whether a node is looked for.
        what: what it is called in errors.

    Returns:
        The node.

    Raises:
        GraphError: there is none, or more than one; the text lists names to choose from.

    Example:
        >>> import torch
        >>> from torch.fx.experimental.proxy_tensor import make_fx
        >>> from funpipe.graphs import from_fx
        >>> graph = from_fx(make_fx(lambda x: (x + 1 + 2,), tracing_mode="fake")(torch.ones(2)).graph)
        >>> one(graph, lambda node: "add" in node.name, "addition")
        Traceback (most recent call last):
        funpipe._errors.GraphError: the graph has 2 of addition (add, add_1): take one with graph.node(name).
    """
    found = find(graph, predicate)
    if len(found) == 1:
        return found[0]
    if not found:
        raise GraphError(f"the graph has no such {what}; {near(what, graph.by_name)}")
    names = ", ".join(node.name for node in found[:5]) + (", …" if len(found) > 5 else "")
    raise GraphError(f"the graph has {len(found)} of {what} ({names}): take one with graph.node(name).")


def closure(graph: Graph, roots: Iterable[str | Node]) -> tuple[Node, ...]:
    """Nodes and all that depends on them, in order.

    Args:
        graph: the graph.
        roots: nodes, or names of nodes or inputs.

    Returns:
        The roots that are nodes and their descendants.

    Raises:
        GraphError: a root is not there.

    Example:
        >>> import torch
        >>> from torch.fx.experimental.proxy_tensor import make_fx
        >>> from funpipe.graphs import from_fx
        >>> made = make_fx(lambda x: (x.sin().exp(), x.cos()), tracing_mode="fake")(torch.ones(2))
        >>> [node.name for node in closure(from_fx(made.graph), ["sin"])]
        ['sin', 'exp']
    """
    reached = set(_names(graph, roots, "closure"))
    found = []
    for node in graph.nodes:
        if node.name in reached or any(name in reached for name in node.reads):
            reached.add(node.name)
            found.append(node)
    return tuple(found)


def ancestors(graph: Graph, of: Iterable[str | Node]) -> frozenset[str]:
    """The names of nodes and of all nodes and inputs that they depend on.

    Args:
        graph: the graph.
        of: nodes, or names of nodes or inputs.

    Returns:
        The names.

    Raises:
        GraphError: one is not there.

    Example:
        >>> import torch
        >>> from torch.fx.experimental.proxy_tensor import make_fx
        >>> from funpipe.graphs import from_fx
        >>> made = make_fx(lambda x: (x.sin().exp(), x.cos()), tracing_mode="fake")(torch.ones(2))
        >>> sorted(ancestors(from_fx(made.graph, ["batch.x"]), ["exp"]))
        ['batch.x', 'exp', 'sin']
    """
    needed = set(_names(graph, of, "ancestors"))
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.reads)
    return frozenset(needed)


def _names(graph: Graph, given: Iterable[str | Node], what: str) -> list[str]:
    """The names of nodes or inputs, which must be there."""
    require_graph(graph, what)
    if isinstance(given, str | Node):
        raise FunpipeTypeError(f"{what} takes several names, and was given {given!r}: pass a list of it.")
    names = [each.name if isinstance(each, Node) else each for each in given]
    for name in names:
        if name not in graph.inputs:
            graph.node(name)
    return names
