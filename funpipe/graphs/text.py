"""A graph as text that a person reads."""

import re
from collections.abc import Mapping
from typing import Any

import torch

from funpipe._typing import TensorType, rows
from funpipe.graphs.graph import Graph
from funpipe.graphs.node import Node, Ref, Type, operator_name


def graph_text(graph: Graph) -> str:
    """Inputs, operators and outputs, one a line."""
    lines = [f"{name_text(name)}: {type_text(kind)}" for name, kind in graph.inputs.items()]
    lines += [node_text(node) for node in graph.nodes]
    lines += [f"return {name_text(name)} = {value_text(value)}" for name, value in graph.outputs.items()]
    return "\n".join(lines)


def name_text(name: str) -> str:
    """A name as it is, or in quotes where it holds more than letters, digits, dots and underscores."""
    return name if re.fullmatch(r"[\w.]+", name) else f"'{name}'"


def node_text(node: Node) -> str:
    """A node as a line: name, type, operator, arguments, where it comes from."""
    given = [value_text(a) for a in node.args] + [f"{k}={value_text(a)}" for k, a in node.kwargs.items()]
    kind = "" if node.type is None else f": {type_text(node.type)}"
    notes = [note for note in (node.path, node.source, node.origin and f"by {node.origin}") if note]
    behind = f"  # {'  '.join(notes)}" if notes else ""
    return f"{name_text(node.name)}{kind} = {operator_name(node.target)}({', '.join(given)}){behind}"


def type_text(kind: Type) -> str:
    """`float32[4,2]`, with strides unless they are those of rows, and the device unless it is the CPU."""
    if isinstance(kind, tuple):
        return f"({', '.join(type_text(item) for item in kind)})"
    if not isinstance(kind, TensorType):
        return str(kind)
    strides = "" if kind.stride == rows(kind.shape) else f":{','.join(map(str, kind.stride))}"
    return f"{kind}{strides}{'' if kind.device == 'cpu' else f'@{kind.device}'}"


def value_text(value: Any) -> str:
    """An argument: `%name` for a value, numbers and text as Python writes them."""
    if isinstance(value, Ref):
        return f"%{name_text(value.name)}"
    if isinstance(value, tuple):
        return f"({', '.join(value_text(item) for item in value)}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(value_text(item) for item in value)}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{k!r}: {value_text(v)}' for k, v in value.items())}}}"
    return f"device({str(value)!r})" if isinstance(value, torch.device) else repr(value)
