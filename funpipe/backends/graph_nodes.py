"""A graph's nodes as nodes of torch.fx, with what a compiled step needs to know of them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from funpipe._typing import TensorType
from funpipe.graphs.effects import writes
from funpipe.graphs.graph import Graph
from funpipe.graphs.node import Node
from funpipe.graphs.to_fx import to_fx
from funpipe.tracing.operators import base_of, is_view


@dataclass(frozen=True, eq=False)
class Nodes:
    """A graph and its fx form.

    Args:
        graph: the graph.
        made: its fx form; `meta["val"]` of a view says where in its base's memory it lies.
        calls: the call of each node, by name.
        values: the value of each input and node, by name: for an operator that overwrites one argument, the argument.
    """

    graph: Graph
    made: fx.Graph
    calls: dict[str, fx.Node]
    values: dict[str, fx.Node]

    @property
    def inputs(self) -> list[fx.Node]:
        """The inputs, in order."""
        return list(self.made.find_nodes(op="placeholder"))


def nodes_of(graph: Graph) -> Nodes:
    """The fx form of a graph.

    Args:
        graph: the graph.
    """
    made = to_fx(graph).graph
    ordered = [node for node in made.nodes if node.op == "call_function"]
    calls = {node.name: call for node, call in zip(graph.nodes, ordered, strict=True)}
    values = dict(zip(graph.inputs, made.find_nodes(op="placeholder"), strict=True)) | calls
    for node in graph.nodes:
        _place_view(calls[node.name])
        if _overwrites_one(node):
            values[node.name] = values[writes(node)[0]]
            calls[node.name].replace_all_uses_with(values[node.name])
    return Nodes(graph, made, calls, values)


def _place_view(node: fx.Node) -> None:
    """Works out where in its base's memory a view lies; the type of a value does not say."""
    if is_view(node):
        args, kwargs = fx.map_arg((node.args, dict(node.kwargs)), lambda n: n.meta["val"])
        node.meta["val"] = node.target(*args, **kwargs)  # type: ignore[operator]


def _overwrites_one(node: Node) -> bool:
    return len(writes(node)) == 1 and isinstance(node.type, TensorType)


def view_text(node: fx.Node, variables: dict[fx.Node, str], operators: dict[str, Any]) -> str:
    """A value as an expression: its variable, or a view of the variable of the value that owns its memory.

    Args:
        node: the value.
        variables: of values that own their memory.
        operators: takes the operators that the expression refers to, by name.
    """
    if node in variables:
        return variables[node]
    base, value = base_of(node), node.meta["val"]
    if isinstance(value, Tensor) and value.dtype == base.meta["val"].dtype and not value.is_conj():
        of, at = variables[base], value.storage_offset()
        where = f"{of}.storage_offset() + {at}" if at else f"{of}.storage_offset()"
        return f"{of}.as_strided({list(value.shape)}, {list(value.stride())}, {where})"
    return called(node, lambda n: view_text(n, variables, operators), operators)


def called(node: fx.Node, text: Any, operators: dict[str, Any]) -> str:
    """A node as the call of its operator.

    Args:
        node: calls an operator.
        text: the expression of a value that it reads.
        operators: takes the operator, and arguments that have no literal, by name.
    """
    name = _named(node.target)
    operators[name] = node.target
    given = [argument_text(a, text, operators) for a in node.args]
    given += [f"{key}={argument_text(a, text, operators)}" for key, a in node.kwargs.items()]
    return f"ops.{name}({', '.join(given)})"


def _named(target: Any) -> str:
    return str(target).replace(".", "_") if hasattr(target, "_schema") else target.__name__


def argument_text(value: Any, text: Any, operators: dict[str, Any]) -> str:
    """An argument of an operator as an expression."""
    if isinstance(value, fx.Node):
        return text(value)
    if isinstance(value, tuple | list):
        items = [argument_text(item, text, operators) for item in value]
        return f"[{', '.join(items)}]"
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and abs(value) < float("inf")):
        return repr(value)
    name = str(value).replace(".", "_") if isinstance(value, torch.dtype) else f"constant{len(operators)}"
    operators[name] = value
    return f"ops.{name}"
