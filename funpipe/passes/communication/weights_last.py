"""Weight gradients move behind the rest of the backward, in the order in which the next step reads the weights.

    g3 = …                          g3 = …
    w3 = mm(x2, g3)                 g2 = mm(g3, …)
    p3 = all_reduce(w3)             g1 = mm(g2, …)
    g2 = mm(g3, …)                  w1 = mm(x0, g1)
    w2 = mm(x1, g2)          →      p1 = all_reduce(w1)      needed first in the next step
    p2 = all_reduce(w2)             w2 = mm(x1, g2)
    g1 = mm(g2, …)                  p2 = all_reduce(w2)
    w1 = mm(x0, g1)                 w3 = mm(x2, g3)
    p1 = all_reduce(w1)             p3 = all_reduce(w3)      needed last

A backward makes the gradient of the first layer last, and the next forward needs it first: even where updates are put
off to the next step (`rotate`), nothing hides its transfer. What only a collective needs (the gradient of a weight) can
wait, what the layers in front need cannot. With the weights last and in order, each transfer has as much time as all
weight gradients behind it and the forward in front of its reader take.

Source: Qi et al., "Zero Bubble Pipeline Parallelism", arXiv 2401.10241, section 2: the two parts of a backward.
"""

from funpipe.graphs import Graph
from funpipe.graphs.bound import bound
from funpipe.graphs.communication import is_start, is_wait
from funpipe.graphs.effects import is_pure
from funpipe.graphs.order import by_data_flow
from funpipe.graphs.search import closure
from funpipe.passes.base import Pass
from funpipe.passes.communication.moves import kept_order
from funpipe.passes.optimizer.calls import updates


def weights_last() -> Pass:
    """Puts what only a collective needs behind all that is needed otherwise, ordered by the next step's first readers.

    Collectives along other axes than "dp" stay where they are, and so does all before them.

    Returns:
        The pass. It costs memory: what weight gradients are computed from is kept until the end of the backward.

    Example:
        >>> from funpipe.passes.communication.example import example
        >>> print(*[node.name for node in example().nodes])
        g2 g1 p2 p1 w2 w1 u2 u1
        >>> print(*[node.name for node in weights_last()(example()).nodes])
        g2 p2 g1 p1 w2 w1 u2 u1
    """
    return Pass("weights_last", _ordered, reorders=True)


def _ordered(graph: Graph) -> Graph:
    feeds = _feeds(graph)
    first = _first_readers(graph)
    starts = sorted(dict.fromkeys(feeds.values()), key=lambda start: first.get(start, len(graph.nodes)))
    turn = {start: 1 + i for i, start in enumerate(starts)}
    behind = {node.name for node in closure(graph, turn)} - turn.keys()
    count = len(graph.nodes)

    def key(name: str, at: int) -> float:
        return at + count * (count if name in behind else turn.get(feeds.get(name, ""), 0))

    before = kept_order(graph, reorders=True)
    return graph.replace(nodes=tuple(by_data_flow(graph.nodes, before, lambda node, at: key(node.name, at))))


def _feeds(graph: Graph) -> dict[str, str]:
    """The start that a node alone is for, of each node that is for one start and nothing else."""
    held = bound(graph)
    feeds: dict[str, str] = {}
    for node in reversed(graph.nodes):
        if is_start(node) and node.name not in held:
            feeds[node.name] = node.name
            continue
        readers = {feeds.get(reader.name) for reader in graph.readers(node.name)}
        if len(readers) == 1 and is_pure(node) and not is_wait(node) and node.name not in graph.returned:
            (start,) = readers
            if start is not None:
                feeds[node.name] = start
    return feeds


def _first_readers(graph: Graph) -> dict[str, int]:
    """For each start the position of the first reader of a parameter that its result updates."""
    found: dict[str, int] = {}
    for gradient, param in _pairs(graph):
        at = min((graph.positions[reader.name] for reader in graph.readers(param)), default=len(graph.nodes))
        for start in _starts(graph, gradient):
            found[start] = min(at, found.get(start, at))
    return found


def _pairs(graph: Graph) -> list[tuple[str, str]]:
    """Gradients, as updates read them, with their parameters; without updates, new leaves with old ones."""
    pairs = [pair for call in updates(graph) for pair in zip(call.grads, call.params, strict=True)]
    if pairs:
        return pairs
    returned = ((getattr(value, "name", ""), name) for name, value in graph.outputs.items())
    return [(value, name) for value, name in returned if value in graph.by_name and name in graph.inputs]


def _starts(graph: Graph, name: str) -> set[str]:
    """The nearest starts that a value is made of."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        node = graph.by_name.get(waiting.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if is_start(node):
            found.add(node.name)
        else:
            waiting += node.reads
    return found
