"""What an ATen operator is, read off its schema and tags."""

import operator
from typing import Any

import torch
from torch import fx

from funpipe.functional.communication import MESSAGES
from funpipe.graphs.effects import draws, gives_view
from funpipe.graphs.node import given

aten = torch.ops.aten

IDENTITIES = frozenset({aten.detach.default, aten.alias.default, aten.lift_fresh.default, aten.lift.default})
"""Operators that return their first argument, in a graph without mutation or autograd."""


def is_view(node: fx.Node) -> bool:
    """Whether a node's value shares the memory of its first argument (a view, or a part of a view's results)."""
    if node.target is operator.getitem:
        return isinstance(node.args[0], fx.Node) and is_view(node.args[0])
    return gives_view(node.target)


def mutates(node: fx.Node) -> bool:
    """Whether a node writes to one of its arguments."""
    schema = schema_of(node)
    return schema is not None and schema.is_mutable


def is_random(node: fx.Node) -> bool:
    """Whether a node draws random numbers; attention with a dropout of 0 does not."""
    if not draws(node):
        return False
    return _given(node).get("dropout_p") != 0


def _given(node: fx.Node) -> dict[str, Any]:
    """The arguments of a node by name, defaults included."""
    return {a.name: a.default_value for a in schema_of(node).arguments} | given(node)


def is_constant(node: fx.Node) -> bool:
    """Whether a node makes a tensor from numbers alone (`arange`, `full`, …); a message that comes is none."""
    return node.op == "call_function" and not node.all_input_nodes and node.target not in MESSAGES


def schema_of(node: fx.Node) -> Any:
    """The schema of the operator that a node calls, or None (for `getitem` and placeholders)."""
    return getattr(node.target, "_schema", None)


def base_of(node: fx.Node) -> fx.Node:
    """The node whose memory a view shares; the node itself if it is no view."""
    while is_view(node):
        node = node.args[0]  # type: ignore[assignment]
    return node
