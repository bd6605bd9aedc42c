"""What a value in a graph is computed from, as a small graph of its own."""

from typing import Any

import torch
from torch import Tensor, fx

from funpipe import _compat
from funpipe.graphs.effects import gives_view, written_arguments
from funpipe.tracing.guards.guard import Key
from funpipe.tracing.identifier import identifier
from funpipe.tracing.operators import IDENTITIES, mutates


def ancestors(nodes: list[fx.Node]) -> list[fx.Node]:
    """What nodes are computed from, themselves included, in the graph's order.

    An operator that writes to the memory of one of them is among it: what it has written may be read.

    Args:
        nodes: of one graph, which is being traced: all that has been written so far was written before.
    """
    if not nodes:
        return []
    graph, wanted = nodes[0].graph, _closure(nodes, set())
    writers = {n: {base_of(w) for w in written_nodes(n)} for n in graph.nodes if mutates(n)}
    while True:
        bases = {base_of(n) for n in wanted}
        missing = [n for n, written in writers.items() if n not in wanted and written & bases]
        if not missing:
            return [n for n in graph.nodes if n in wanted]
        wanted = _closure(missing, wanted)


def extract(nodes: list[fx.Node], target: Any, args: list[fx.Node | Key], keys: dict[fx.Node, Key]) -> fx.Graph:
    """A call, and what it needs, as a graph on the CPU that returns its result.

    Args:
        nodes: `ancestors` of what the call reads.
        target: of the call.
        args: its arguments: nodes, and the keys of tensors that the trace does not know.
        keys: the kind and name of the leaf that a placeholder or a constant becomes.
    """
    graph, copies = fx.Graph(), {}
    for node in nodes:
        if node in keys:
            copies[node] = _held(graph, keys[node])
        else:
            copies[node] = graph.node_copy(node, copies.__getitem__)
            copies[node].meta = {}
            copies[node].kwargs = {k: _on_cpu(v) for k, v in copies[node].kwargs.items()}
    graph.output(
        graph.call_function(target, tuple(copies[a] if isinstance(a, fx.Node) else _held(graph, a) for a in args))
    )
    return graph


def _held(graph: fx.Graph, key: Key) -> fx.Node:
    found = graph.placeholder(identifier("_".join(key)))
    found.meta["leaf"] = key
    return found


def constants(nodes: list[fx.Node]) -> dict[str, Tensor]:
    """The tensors among nodes that the function closed over, by name."""
    return {str(n.target): _compat.traced_constant(str(n.target)) for n in nodes if n.op == "get_attr"}


def base_of(node: fx.Node) -> fx.Node:
    """The node whose memory a value lies in, in a graph that still has identities and operators in place."""
    while isinstance(node.args[0] if node.args else None, fx.Node) and _shares(node):
        node = node.args[0]  # type: ignore[assignment]
    return node


def written_nodes(node: fx.Node) -> list[fx.Node]:
    """What a node writes to."""
    found: list[fx.Node] = []
    fx.map_arg(list(written_arguments(node)), found.append)
    return found


def _shares(node: fx.Node) -> bool:
    named = getattr(node.target, "__name__", "")
    return gives_view(node.target) or node.target in IDENTITIES or mutates(node) or named == "getitem"


def _closure(nodes: list[fx.Node], known: set[fx.Node]) -> set[fx.Node]:
    found, todo = set(known), list(nodes)
    while todo:
        node = todo.pop()
        if node not in found:
            found.add(node)
            todo += node.all_input_nodes
    return found


def _on_cpu(value: Any) -> Any:
    return torch.device("cpu") if isinstance(value, torch.device) else value
