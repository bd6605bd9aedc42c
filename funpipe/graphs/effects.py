"""What a node does besides giving a value: views share memory, in-place operators write to it."""

import operator
from collections.abc import Iterator
from typing import Any

import torch

from funpipe.graphs.communication import is_message
from funpipe.graphs.graph import Graph
from funpipe.graphs.node import Node, refs_in

HIDDEN_VIEWS = frozenset(
    {
        torch.ops.aten._unsafe_view.default,
        torch.ops.aten.unsafe_split.Tensor,
        torch.ops.aten.unsafe_split_with_sizes.default,
    }
)
"""Operators that return a view although their schema does not say so."""


def writes(node: Node) -> tuple[str, ...]:
    """The names of the arguments that a node overwrites."""
    return tuple(dict.fromkeys(ref.name for ref in _written(node)))


def _written(node: Node) -> Iterator[Any]:
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.is_mutable:
        return
    given = dict(zip((a.name for a in schema.arguments), node.args, strict=False)) | dict(node.kwargs)
    for argument in schema.arguments:
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from refs_in(given.get(argument.name))


def is_pure(node: Node) -> bool:
    """Whether a node may go if nothing reads what it gives; collectives may, if they go on all ranks."""
    return not is_message(node) and not any(True for _ in _written(node))


def is_view(graph: Graph, node: Node) -> bool:
    """Whether a node's value shares memory with its first argument."""
    if node.target is operator.getitem:
        of = graph.by_name.get(node.reads[0])
        return of is not None and is_view(graph, of)
    if node.target in HIDDEN_VIEWS:
        return True
    schema = getattr(node.target, "_schema", None)
    return schema is not None and any(r.alias_info and not r.alias_info.is_write for r in schema.returns)
