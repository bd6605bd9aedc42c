"""What a node does besides giving a value: views share memory, in-place operators write to it."""

import operator
from collections.abc import Iterator
from typing import Any

import torch

from funpipe.graphs.communication import is_message
from funpipe.graphs.graph import Graph
from funpipe.graphs.node import Node, given, refs_in

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
    return tuple(dict.fromkeys(ref.name for value in written_arguments(node) for ref in refs_in(value)))


def written_arguments(call: Any) -> Iterator[Any]:
    """The arguments that a call overwrites.

    Args:
        call: a `Node`, or a node of torch.fx.
    """
    schema = getattr(call.target, "_schema", None)
    if schema is None or not schema.is_mutable:
        return
    named = given(call)
    for argument in schema.arguments:
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield named.get(argument.name)


def is_pure(node: Node) -> bool:
    """Whether a node may go if nothing reads what it gives; collectives may, if they go on all ranks."""
    return not is_message(node) and not writes(node)


def is_view(graph: Graph, node: Node) -> bool:
    """Whether a node's value shares memory with its first argument."""
    if node.target is operator.getitem:
        of = graph.by_name.get(node.reads[0])
        return of is not None and is_view(graph, of)
    return gives_view(node.target)


def gives_view(target: Any) -> bool:
    """Whether what an operator gives shares memory with its first argument."""
    if target in HIDDEN_VIEWS:
        return True
    schema = getattr(target, "_schema", None)
    return schema is not None and any(r.alias_info and not r.alias_info.is_write for r in schema.returns)


def draws(call: Any) -> bool:
    """Whether a call draws random numbers, as its operator's tag says.

    Args:
        call: a `Node`, or a node of torch.fx.
    """
    return torch.Tag.nondeterministic_seeded in getattr(call.target, "tags", ())
