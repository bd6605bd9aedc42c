"""Views and rows of the batch at the border of head and tail: what is carried owns its memory."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from funpipe._typing import TensorType
from funpipe.graphs.effects import is_view
from funpipe.graphs.graph import Graph
from funpipe.graphs.node import Node, Ref

BATCH = "batch."
"""The prefix of the inputs that are the batch."""


def with_own_views(graph: Graph, tail: frozenset[str]) -> tuple[Graph, frozenset[str]]:
    """The tail takes views from what owns their memory: those that only it reads move there, others are made again.

    A view that is carried beside its base would be a second name of the same memory, which an update in place of the
    one would change without anybody seeing it.

    Args:
        graph: the step.
        tail: the names of the deferred nodes.

    Returns:
        The graph, and the tail with its views.
    """
    late, copies = set(tail), dict[str, str]()
    read_late: set[str] = set()
    read_early = set(graph.returned)
    nodes: list[Node] = []
    for node in reversed(graph.nodes):
        wanted = node.name not in late and node.name in read_late and is_view(graph, node)
        if wanted and not base_of(graph, node.name).startswith(BATCH):
            again = replace(node, name=graph.fresh(f"{node.name}_again")) if node.name in read_early else node
            if again is not node:
                copies[node.name] = again.name
                nodes.append(again)
            late.add(again.name)
            read_late.update(node.reads)
        (read_late if node.name in late else read_early).update(node.reads)
        nodes.append(node)
    renamed = [node.renamed(copies) if node.name in late else node for node in reversed(nodes)]
    return graph.replace(nodes=tuple(renamed)), frozenset(late)


def base_of(graph: Graph, name: str) -> str:
    """The value that owns the memory of a value."""
    node = graph.by_name.get(name)
    while node is not None and node.reads and is_view(graph, node):
        name = node.reads[0]
        node = graph.by_name.get(name)
    return name


def with_kept_batch(graph: Graph, tail: frozenset[str]) -> Graph:
    """What the tail reads of the batch is copied in its own step: the caller may put the next batch into that memory.

    Args:
        graph: the step.
        tail: the names of the deferred nodes.
    """
    read = dict.fromkeys(name for node in graph.nodes if node.name in tail for name in node.reads)
    of_batch = [name for name in read if name not in tail and base_of(graph, name).startswith(BATCH)]
    plain = {name: re.sub(r"\W", "_", name) for name in of_batch}  # "a.b" and "a_b" become one
    copies = {name: graph.fresh(f"kept{i}_{plain[name]}") for i, name in enumerate(of_batch)}
    made = {name: _copy(graph, name, copies) for name in of_batch}
    nodes: list[Node] = []
    for node in graph.nodes:
        late = node.name in tail
        nodes += [made.pop(name) for name in node.reads if late and name in made]
        nodes.append(node.renamed(copies) if late else node)
    return graph.replace(nodes=tuple(nodes))


def _copy(graph: Graph, name: str, copies: Mapping[str, str]) -> Node:
    clone: Any = torch.ops.aten.clone.default
    kind = graph.type_of(name)
    like = torch.empty_strided(kind.shape, kind.stride, dtype=kind.dtype, device="meta").clone()
    return Node(
        copies[name], clone, (Ref(name),), type=replace(TensorType.of(like), device=kind.device), origin="rotate"
    )
