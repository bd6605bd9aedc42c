"""What a graph means: its operators one by one."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from funpipe._errors import GraphError
from funpipe.functional.objects import knowing
from funpipe.graphs.graph import Graph, require_graph
from funpipe.graphs.node import Node, map_refs

Watch = Callable[[Node], AbstractContextManager[Any]]
"""What is open while a node runs."""


def interpret(graph: Graph, inputs: Mapping[str, Any], watch: Watch | None = None) -> dict[str, Any]:
    """Runs a graph, operator by operator; collectives go to the communicator of the context.

    Args:
        graph: the graph.
        inputs: a value for each input that is no constant.
        watch: gives what is open while a node runs, such as a span of a profiler.

    Returns:
        The outputs by name.

    Raises:
        GraphError: an input is missing.

    Example:
        >>> import torch
        >>> from torch.fx.experimental.proxy_tensor import make_fx
        >>> from funpipe.graphs import from_fx
        >>> made = make_fx(lambda x: (x + 1,), tracing_mode="fake")(torch.ones(2))
        >>> interpret(from_fx(made.graph, ["batch.x"], ["aux.y"]), {"batch.x": torch.zeros(2)})
        {'aux.y': tensor([1., 1.])}
    """
    require_graph(graph, "interpret")
    values = bound(graph, inputs)
    with torch.no_grad(), knowing(graph.objects):
        for node, dead in zip(graph.nodes, last_reads(graph), strict=True):
            with nullcontext() if watch is None else watch(node):
                values[node.name] = call(node, values)
            for name in dead:
                del values[name]
    return {name: map_refs(lambda ref: values[ref.name], value) for name, value in graph.outputs.items()}


def bound(graph: Graph, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are there when a graph begins: what is given, and its constants."""
    values = {name: graph.constants.get(name, inputs.get(name)) for name in graph.inputs}
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise GraphError(f"the graph takes {missing[0]!r}, which is not given: pass a tensor for each of its inputs.")
    return values


def call(node: Node, values: Mapping[str, Any]) -> Any:
    """Runs one node.

    Args:
        node: the node.
        values: what it reads, by name.
    """
    args = [map_refs(lambda ref: values[ref.name], a) for a in node.args]
    return node.target(*args, **{key: map_refs(lambda ref: values[ref.name], a) for key, a in node.kwargs.items()})


def last_reads(graph: Graph) -> Iterator[list[str]]:
    """For each node the values that nothing needs behind it; inputs are the caller's and stay."""
    last = {name: i for i, node in enumerate(graph.nodes) for name in (node.name, *node.reads)}
    ends: dict[int, list[str]] = {}
    for name, at in last.items():
        if name not in graph.inputs and name not in graph.returned:
            ends.setdefault(at, []).append(name)
    for i in range(len(graph.nodes)):
        yield ends.get(i, [])
