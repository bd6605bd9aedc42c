"""The order of nodes: by data flow, and no more than is needed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise

from funpipe._errors import GraphError
from funpipe.graphs.bound import bound
from funpipe.graphs.communication import channel
from funpipe.graphs.effects import writes
from funpipe.graphs.graph import Graph
from funpipe.graphs.node import Node
from funpipe.graphs.overwritten import owners_of_memory


def predecessors(nodes: Sequence[Node]) -> dict[str, set[str]]:
    """For each node the nodes that must run before it.

    Those are the makers of what it reads, the node before it on its channel, and, for values that are overwritten,
    whatever read or wrote the same memory before.

    Args:
        nodes: in any order in which channels and writes are right.
    """
    names = {node.name for node in nodes}
    before = {node.name: names.intersection(node.reads) for node in nodes}
    _keep_channels(nodes, before)
    if any(writes(node) for node in nodes):
        _keep_memory(nodes, before)
    return before


def _keep_channels(nodes: Iterable[Node], before: dict[str, set[str]]) -> None:
    last: dict[str, str] = {}
    for node in nodes:
        name = channel(node)
        if name is not None:
            if name in last:
                before[node.name].add(last[name])
            last[name] = node.name


def _keep_memory(nodes: Sequence[Node], before: dict[str, set[str]]) -> None:
    """Reads and writes of memory that some node overwrites keep their order."""
    owner = owners_of_memory(Graph({}, tuple(nodes), {}))
    written = {owner.get(name, name) for node in nodes for name in writes(node)}
    last_write: dict[str, str] = {}
    reads: dict[str, list[str]] = {}
    for node in nodes:
        over = {owner.get(name, name) for name in writes(node)}
        touched = {owner.get(name, name) for name in node.reads} & written
        for memory in touched | over:
            if memory in last_write:
                before[node.name].add(last_write[memory])
            if memory in over:
                before[node.name].update(reads.pop(memory, ()))
                last_write[memory] = node.name
            else:
                reads.setdefault(memory, []).append(node.name)
        before[node.name].discard(node.name)


def keep_bound(graph: Graph, before: dict[str, set[str]]) -> None:
    """Adds that nodes which other ranks rely on one by one keep their order.

    Args:
        graph: the graph, in which they have it.
        before: for each node the nodes that must run before it.
    """
    held = bound(graph)
    chain(before, (node.name for node in graph.nodes if node.name in held))


def chain(before: dict[str, set[str]], names: Iterable[str]) -> None:
    """Adds that each of some nodes runs before the next.

    Args:
        before: for each node the nodes that must run before it.
        names: of the nodes, in order.
    """
    for first, second in pairwise(names):
        before[second].add(first)


def sorted_stably(
    graph: Graph, nodes: Sequence[Node] | None = None, key: Callable[[Node, int], float] | None = None
) -> Graph:
    """The graph with its nodes in an order that data flow, channels and writes allow, nearest to a wanted one.

    Args:
        graph: the graph.
        nodes: its new nodes, in the wanted order, which may be wrong where a node reads what comes behind it; the
            graph's own by default. The order of nodes of one channel, of writes, and of what other ranks of a pipeline
            rely on, is kept as it is in here.
        key: where a node is wanted, from the node and its position; smaller comes first. Its position by default.

    Returns:
        The graph: at each point the node with the smallest key among those that may run comes first.

    Raises:
        GraphError: nodes depend on each other in a circle.

    Example:
        >>> import torch
        >>> from torch.fx.experimental.proxy_tensor import make_fx
        >>> from funpipe.graphs import from_fx
        >>> made = make_fx(lambda x: (x.sin().exp(), x.cos()), tracing_mode="fake")(torch.ones(2))
        >>> turned = sorted_stably(from_fx(made.graph), key=lambda node, at: -at)
        >>> [node.name for node in turned.nodes]
        ['cos', 'sin', 'exp']
    """
    given = list(graph.nodes if nodes is None else nodes)
    wanted = graph.replace(nodes=tuple(given))
    before = predecessors(given)
    keep_bound(wanted, before)
    return wanted.replace(nodes=tuple(by_data_flow(given, before, key or (lambda node, at: at))))


def by_data_flow(
    nodes: Sequence[Node], before: Mapping[str, set[str]], key: Callable[[Node, int], float]
) -> list[Node]:
    """Nodes in an order that keeps given dependencies, the smallest key first.

    Args:
        nodes: the nodes.
        before: for each the nodes that must run before it.
        key: where a node is wanted.

    Raises:
        GraphError: nodes depend on each other in a circle.
    """
    missing = {name: len(needed) for name, needed in before.items()}
    after: dict[str, list[int]] = {}
    at = {node.name: i for i, node in enumerate(nodes)}
    for name, needed in before.items():
        for other in needed:
            after.setdefault(other, []).append(at[name])
    ready = [(key(node, i), i) for i, node in enumerate(nodes) if not missing[node.name]]
    heapify(ready)
    ordered: list[Node] = []
    while ready:
        node = nodes[heappop(ready)[1]]
        ordered.append(node)
        for i in after.get(node.name, ()):
            missing[nodes[i].name] -= 1
            if not missing[nodes[i].name]:
                heappush(ready, (key(nodes[i], i), i))
    if len(ordered) < len(nodes):
        stuck = next(node for node in nodes if missing[node.name])
        raise GraphError(
            f"{stuck.where} depends on itself, by data flow or by the order of collectives: keep the order of each "
            "channel, and let no node read what is made of it."
        )
    return ordered
