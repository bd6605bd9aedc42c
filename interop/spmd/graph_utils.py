"""Small functions over graphs of `torch.fx`: finding, copying and writing down nodes."""

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from torch import fx

from funpipe.interop.spmd.errors import SpmdRuntimeError, SpmdValueError
from funpipe.interop.spmd.rewriting.found import Found
from funpipe.interop.spmd.rewriting.nested import map_nested

logger = logging.getLogger("graph_utils")


class OP(str, Enum):
    """The kinds of nodes."""

    CALL_FUNCTION = "call_function"
    CALL_MODULE = "call_module"
    CALL_METHOD = "call_method"
    GET_ATTR = "get_attr"
    OUTPUT = "output"
    PLACEHOLDER = "placeholder"


class CommType(str, Enum):
    """How the names of collectives began before they were functional."""

    ALLREDUCE = "allreduce_"
    ALLGATHER = "allgather_"
    BROADCAST = "broadcast_"
    REDUCESCATTER = "reduce_scatter_"
    SCATTER = "scatter_"


def get_node_tensor_metadata(node: fx.Node, is_required: bool = True) -> Any:
    """What a node's tensor is like: something with `shape`, `dtype` and `stride`.

    Args:
        node: of a graph that was traced.
        is_required: whether it is an error that nothing is known of it.

    Returns:
        `meta["tensor_meta"]`, else the tensor without memory `meta["val"]`, else None.

    Raises:
        SpmdRuntimeError: nothing is known, and it is required.
    """
    found = node.meta.get("tensor_meta")
    found = node.meta.get("val") if found is None else found
    if found is None and is_required:
        raise SpmdRuntimeError(
            f"Callsite expects that ``tensor_meta`` exists in ``{node.name}``, but got None instead. "
            f"Node: {node.op} {node.name} {node.target}; trace the graph, or set node.meta['val']."
        )
    return found


def get_output(graph: fx.Graph) -> fx.Node:
    """The node that returns.

    Raises:
        SpmdRuntimeError: there is none.
    """
    for node in reversed(graph.nodes):
        if node.op == OP.OUTPUT:
            return node
    raise SpmdRuntimeError(f"Cannot find the output node in {graph}; end it with graph.output(...).")


def find_node(graph: fx.Graph, predicate: Callable[[fx.Node], bool], reverse_order: bool = False) -> Found:
    """All nodes of which something holds.

    Args:
        graph: the graph.
        predicate: is asked of each node.
        reverse_order: whether the last one comes first.

    Returns:
        A list of them, empty if there are none; an item of an empty one is an error that says which names there are.

    Example:
        >>> import torch
        >>> graph = fx.symbolic_trace(lambda x: torch.relu(x) + 1).graph
        >>> find_node(graph, lambda n: n.name == "relu")
        [relu]
        >>> find_node(graph, lambda n: n.name == "tan")[0]  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        funpipe.interop.spmd.errors.SpmdIndexError: no node fits; the graph has x, relu, add, output: ask for one ...
    """
    nodes = list(graph.nodes)
    return Found(filter(predicate, nodes[::-1] if reverse_order else nodes), graph)


def is_leaf_subgraph(graph: fx.Graph, subgraph: Sequence[fx.Node]) -> bool:
    """Whether nothing but the output and the nodes themselves reads what the nodes make.

    Args:
        graph: the graph.
        subgraph: some of its nodes.
    """
    inside = {*subgraph, get_output(graph)}
    return all(user in inside for node in subgraph for user in node.users if isinstance(user, fx.Node))


def clone_subgraph(graph: fx.Graph, subgraph: Sequence[fx.Node], target: fx.Node) -> list[fx.Node]:
    """Copies calls to before a node; a copy reads copies where the original reads originals.

    Args:
        graph: the graph.
        subgraph: some of its calls, in their order.
        target: what the copies come before.

    Returns:
        The copies.

    Raises:
        SpmdValueError: a node is no call.
    """
    copies: dict[fx.Node, fx.Node] = {}
    with graph.inserting_before(target):
        for node in subgraph:
            if node.op != OP.CALL_FUNCTION:
                raise SpmdValueError(
                    f"{node.name!r} is a {node.op} and cannot be cloned; leave it out of the subgraph."
                )
            args, kwargs = map_nested(lambda n: copies.get(n, n), (node.args, dict(node.kwargs)))
            copies[node] = graph.call_function(node.target, args, kwargs, node.type)  # type: ignore[arg-type]
            copies[node].meta = dict(node.meta)
    return list(copies.values())


def rebuild_graph(gm: fx.GraphModule, remove_dead_code: bool = True) -> None:
    """Checks a graph, drops what nothing reads and writes its code anew.

    Args:
        gm: is changed.
        remove_dead_code: whether nodes that nothing reads are dropped.
    """
    gm.graph.lint()
    if remove_dead_code:
        gm.graph.eliminate_dead_code()
    gm.recompile()


def dump_graphs_to_files(graphs: Mapping[str, Any], folder: str = "") -> str:
    """Writes `str` of each graph to `{name}.graph`.

    Args:
        graphs: by name.
        folder: where to; a new temporary one by default.

    Returns:
        The folder.

    Example:
        >>> folder = dump_graphs_to_files({"step": "a graph"})
        >>> (Path(folder) / "step.graph").read_text()
        'a graph'
    """
    folder = folder or tempfile.mkdtemp()
    for prefix, gm in graphs.items():
        (Path(folder) / f"{prefix}.graph").write_text(str(gm))
    logger.warning("Dump graphs to %s", folder)
    return folder
