"""Pieces of a graph, each a graph of its own, and how they are called one after another."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass

from torch import fx

from funpipe._typing import TensorType
from funpipe.backends.layers import layers
from funpipe.stages.extract import needed
from funpipe.tracing.operators import base_of, is_constant, is_view, mutates


@dataclass(frozen=True, eq=False)
class Piece:
    """A part of a graph that is compiled by itself.

    Args:
        module: flat tensors in, a tuple of tensors out, none of which shares memory with another or with an input.
        types: of its inputs, in order.
        inputs: the nodes of the whole graph that it reads.
        outputs: the nodes of the whole graph that it gives.
    """

    module: fx.GraphModule
    types: tuple[TensorType, ...]
    inputs: tuple[fx.Node, ...]
    outputs: tuple[fx.Node, ...]


def pieces(module: fx.GraphModule, types: Sequence[TensorType]) -> list[Piece]:
    """Cuts a graph at its repeated layers.

    Args:
        module: flat tensors in, a tuple of tensors out; may write to its inputs; nodes have `meta["val"]`.
        types: of its inputs, in order.

    Returns:
        The pieces in order: what a piece reads is an input of the graph or an output of an earlier piece. Views and
        constants are made where they are read: a piece gives what a view is of. The only piece of a graph that is not
        cut is the graph itself.
    """
    graph = module.graph
    groups = layers(graph)
    if len(groups) < 2:
        return [Piece(module, tuple(types), tuple(graph.find_nodes(op="placeholder")), returned(graph))]
    owner = owners(graph, groups)
    read = read_elsewhere(graph, owner)
    order = {node: i for i, node in enumerate(graph.nodes)}
    return [piece_of(index, owner, order, read) for index in range(len(groups))]


def returned(graph: fx.Graph) -> tuple[fx.Node, ...]:
    """The nodes that a graph returns."""
    return tuple(graph.find_nodes(op="output")[0].args[0])


def owners(graph: fx.Graph, groups: Sequence[Sequence[fx.Node]]) -> dict[fx.Node, int]:
    """The piece of each node that computes something; the parts of several results belong to their call."""
    owner = {node: i for i, group in enumerate(groups) for node in group}
    for node in graph.find_nodes(op="call_function", target=operator.getitem):
        if not is_view(node):
            owner[node] = owner[node.args[0]]
    return owner


def read_elsewhere(graph: fx.Graph, owner: dict[fx.Node, int]) -> set[fx.Node]:
    """What a piece makes and another reads, or the graph returns."""
    readers = [n for n in graph.nodes if not is_view(n)]
    reads = ((reader, base_of(source)) for reader in readers for source in reader.all_input_nodes)
    return {source for reader, source in reads if source in owner and owner[source] != owner.get(reader)}


def _is_made_where_read(node: fx.Node) -> bool:
    return is_view(node) or is_constant(node)


def piece_of(index: int, owner: dict[fx.Node, int], order: dict[fx.Node, int], read: set[fx.Node]) -> Piece:
    """One piece as a graph of its own.

    Args:
        index: which.
        owner: the piece of each node; views, and constants that are in none, are made where they are read.
        order: the position of each node in the whole graph.
        read: what a piece makes and another reads.
    """
    mine = sorted((n for n, i in owner.items() if i == index), key=order.__getitem__)
    outputs = tuple(n for n in mine if n in read)
    writes = tuple(n for n in mine if mutates(n))
    cut = needed((*outputs, *writes), lambda n: owner[n] == index if n in owner else _is_made_where_read(n), order)
    graph, copies = fx.Graph(), {}
    for node in cut.outside:
        copies[node] = graph.placeholder(f"i{len(copies)}")
        copies[node].meta["val"] = node.meta["val"]
    for node in cut.inside:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(tuple(copies[n] for n in outputs))
    types = tuple(TensorType.of(n.meta["val"]) for n in cut.outside)
    return Piece(fx.GraphModule({}, graph), types, cut.outside, outputs)
