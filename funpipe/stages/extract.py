"""Takes a region out of a graph: what it computes itself, what it needs from outside, and its own graph."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import fx

from funpipe._typing import TensorType
from funpipe.stages.stage import Kind, Region
from funpipe.tracing.identifier import identifier
from funpipe.tracing.operators import base_of, is_view

aten = torch.ops.aten


@dataclass(frozen=True)
class Cut:
    """The nodes of a region and those it reads from outside, each in graph order."""

    inside: tuple[fx.Node, ...]
    outside: tuple[fx.Node, ...]


def needed(wanted: Iterable[fx.Node], computes: Callable[[fx.Node], bool], order: dict[fx.Node, int]) -> Cut:
    """What is computed, and what is read, to get the wanted nodes.

    Args:
        wanted: nodes to be computed.
        computes: whether a node is computed inside (owned here, or floating).
        order: the position of each node in the graph.
    """
    inside: set[fx.Node] = set()
    outside: set[fx.Node] = set()
    waiting = list(wanted)
    while waiting:
        node = waiting.pop()
        if node in inside or node in outside:
            continue
        if not computes(node):
            outside.add(node)
            continue
        inside.add(node)
        waiting += node.all_input_nodes
    return Cut(tuple(sorted(inside, key=order.__getitem__)), tuple(sorted(outside, key=order.__getitem__)))


def value_name(node: fx.Node) -> str:
    """The name of a node's value in a program: `kind.NAME` for a leaf, else the node's own."""
    return ".".join(node.meta["leaf"]) if node.op == "placeholder" else node.name


def output_name(kind: Kind, stage: int, elsewhere: set[fx.Node], node: fx.Node) -> str:
    """The name of a region's output; what other regions give, too, has a name of its own here.

    The node's name is unique in the graph; a leaf's with its dots replaced need not be.
    """
    return f"{node.name}_of_{kind}{stage}" if node in elsewhere else value_name(node)


def region(kind: Kind, stage: int, cut: Cut, outputs: list[fx.Node], given: set[fx.Node]) -> Region:
    """Builds the region of a cut; an output that shares memory with an input or another output is copied.

    Args:
        kind, stage: which region it is.
        cut: its nodes.
        outputs: what it gives.
        given: nodes that other regions give as well: floating ones.
    """
    graph, copies, outside = fx.Graph(), {}, set(cut.outside)
    for i, node in enumerate(cut.outside):
        copies[node] = graph.placeholder(identifier(f"x{i}_{value_name(node)}"))
        copies[node].meta["val"] = node.meta["val"]
    for node in cut.inside:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    returned = tuple(_unshared(graph, outputs, copies, outside))
    graph.output(returned)
    types = {value_name(n): TensorType.of(n.meta["val"]) for n in cut.outside}
    names = tuple(output_name(kind, stage, outside | given, n) for n in outputs)
    types |= {name: TensorType.of(r.meta["val"]) for name, r in zip(names, returned, strict=True)}
    inputs = tuple(value_name(n) for n in cut.outside)
    return Region(kind, stage, fx.GraphModule({}, graph), inputs, names, types)


def _unshared(
    graph: fx.Graph, outputs: list[fx.Node], copies: dict[fx.Node, fx.Node], inputs: set[fx.Node]
) -> Iterable[fx.Node]:
    bases = [base_of(node) for node in outputs]
    count = Counter(bases)
    for node, base in zip(outputs, bases, strict=True):
        shares = base in inputs or (count[base] > 1 and is_view(node))
        yield _copy(graph, node, copies) if shares else copies[node]


def _copy(graph: fx.Graph, node: fx.Node, copies: dict[fx.Node, fx.Node]) -> fx.Node:
    copy = graph.call_function(aten.clone.default, (copies[node],), {"memory_format": torch.contiguous_format})
    copy.meta["val"] = node.meta["val"].contiguous()
    return copy
