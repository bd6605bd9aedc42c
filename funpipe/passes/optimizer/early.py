"""Updating parameters as soon as their gradients have arrived, while other gradients are on their way."""

from collections.abc import Iterator, Sequence

from funpipe.graphs import Graph, Node, refs_in
from funpipe.graphs.bound import start_of
from funpipe.graphs.communication import is_communication, is_wait
from funpipe.passes.base import Pass
from funpipe.passes.optimizer.calls import updates
from funpipe.passes.optimizer.list_calls import takers
from funpipe.passes.optimizer.lists import split_lists
from funpipe.passes.optimizer.partition import grouped


def update_early() -> Pass:
    """Splits updates by the collective that their gradients come from, and puts each right behind that one's wait.

    A bucket of gradients that was reduced as one message is updated by one call, buckets in the order in which they
    start. Updates that read the global norm need all gradients, and so stay behind the last wait. Bits do not change.

    Returns:
        A pass over graphs. Values keep their names. Collectives and waits stay where they are: have `sink_waits` or
        `schedule` place them.

    Example:
        >>> print(update_early())
        update_early
    """
    return Pass("update_early", _early, after=("bucket", "dedupe"))


def _early(graph: Graph) -> Graph:
    waits = _nearest_waits(graph)
    for call in updates(graph):
        others = _union(waits, [ref.name for ref in refs_in(call.settings)])  # the norm waits for all gradients
        keys = [waits.get(grad, frozenset()) | others for grad in call.grads]
        if len(parts := grouped(keys)) > 1:
            parts.sort(key=lambda part: max((graph.positions.get(n, -1) for n in keys[part[0]]), default=-1))
            graph = split_lists(graph, call.name, parts, "update_early")
    return graph.replace(nodes=tuple(_hastened(graph.nodes, _movable(graph))))


def _nearest_waits(graph: Graph) -> dict[str, frozenset[str]]:
    """For each value the waits that it comes from, those behind another wait excluded.

    The waits of one coalesced collective are over together, and so count as one, by the name of its start.
    """
    found: dict[str, frozenset[str]] = {}
    for node in graph.nodes:
        start = start_of(graph, node) if is_wait(node) else None
        own = frozenset(((start or node).name,)) if is_wait(node) else _union(found, node.reads)
        if own:
            found[node.name] = own
    return found


def _union(found: dict[str, frozenset[str]], names: Sequence[str]) -> frozenset[str]:
    return frozenset().union(*(found.get(name, frozenset()) for name in names))


def _movable(graph: Graph) -> set[str]:
    """The updates, what takes their results out, and what lies between a wait and them."""
    wanted = {name for call in updates(graph) for name in takers(graph, call.call)}
    waits = _nearest_waits(graph)
    for node in reversed(graph.nodes):
        if node.name in wanted:
            wanted |= {name for name in node.reads if name in waits and not is_communication(graph.node(name))}
    return wanted


def _hastened(nodes: Sequence[Node], movable: set[str]) -> Iterator[Node]:
    """The nodes in order, the movable ones as soon as all that they read is made."""
    made = {node.name for node in nodes}
    missing = {node.name: len(made.intersection(node.reads)) for node in nodes}
    readers: dict[str, list[Node]] = {}
    for node in nodes:
        for name in node.reads:
            readers.setdefault(name, []).append(node)
    done: set[str] = set()
    for node in nodes:
        queue = [node] if node.name not in done else []
        while queue:
            current = queue.pop(0)
            done.add(current.name)
            yield current
            for reader in readers.get(current.name, ()):
                missing[reader.name] -= 1
                if reader.name in movable and not missing[reader.name]:
                    queue.append(reader)
