"""Reads back what `Graph.as_text` wrote."""

import ast
import math
import operator
import re
from collections.abc import Mapping
from typing import Any

import torch

from funpipe._errors import GraphError
from funpipe._typing import TensorType, rows
from funpipe.graphs.graph import Graph
from funpipe.graphs.node import Node, Ref, Type

_NAME = r"(?:[\w.]+|'[^']+')"
_INPUT = re.compile(rf"({_NAME}): (\S+)$")
_NODE = re.compile(rf"({_NAME})(?:: (.+?))? = ([\w.]+)\((.*?)\)(?:  # (.*))?$")
_OUTPUT = re.compile(rf"return ({_NAME}) = (.*)$")
_TENSOR = re.compile(r"(\w+)\[([\d,]*)\](?::([\d,]+))?(?:@(\w+))?$")


def parse(
    text: str, constants: Mapping[str, torch.Tensor] | None = None, objects: Mapping[str, Any] | None = None
) -> Graph:
    """Reads a graph.

    Args:
        text: as `Graph.as_text` writes it; what stands behind `#` is not read.
        constants: tensors behind inputs named `const.NAME`.
        objects: what text arguments of operators name.

    Returns:
        The graph.

    Raises:
        GraphError: a line is no input, node or output; the text quotes it.

    Example:
        >>> graph = parse("batch.x: float32[2]\\nsin: float32[2] = aten.sin.default(%batch.x)\\nreturn aux.y = %sin")
        >>> graph.nodes[0].target
        <OpOverload(op='aten.sin', overload='default')>
    """
    inputs: dict[str, TensorType] = {}
    nodes: list[Node] = []
    outputs: dict[str, Any] = {}
    for line in text.splitlines():
        if found := _OUTPUT.match(line):
            outputs[_plain(found[1])] = _values(found[2])[0][0]
        elif found := _INPUT.match(line):
            inputs[_plain(found[1])] = _type(found[2])
        elif found := _NODE.match(line):
            nodes.append(_node(*found.groups()[:4]))
        elif line.strip():
            raise GraphError(f"{line!r} is no line of a graph: write name: type = operator(arguments).")
    return Graph(inputs, tuple(nodes), outputs, constants or {}, objects or {})


def _plain(name: str) -> str:
    return name.strip("'")


def _node(name: str, kind: str | None, target: str, given: str) -> Node:
    args, kwargs = _values(given)
    return Node(_plain(name), _operator(target), args, kwargs, None if kind is None else _type(kind))


def _values(text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments by position and by name."""
    try:
        call: Any = ast.parse(f"call({_readable(text)})", mode="eval").body
        args = tuple(_evaluated(argument) for argument in call.args)
        return args, {str(keyword.arg): _evaluated(keyword.value) for keyword in call.keywords}
    except (SyntaxError, LookupError, AttributeError, ValueError, TypeError) as error:
        raise GraphError(
            f"{text!r} are no arguments ({error}): write %name for a value, numbers and text as Python does, and "
            "constants of torch as torch.float32."
        ) from error


def _readable(text: str) -> str:
    """`%name` as a call that Python can parse."""
    return re.sub(rf"%({_NAME})", lambda found: f"Ref({_plain(found[1])!r})", text)


def _evaluated(tree: ast.expr) -> Any:
    """What an argument stands for: numbers, text, lists, references, and constants of torch."""
    if isinstance(tree, ast.Call):
        value = _evaluated(tree.args[0])
        return Ref(value) if getattr(tree.func, "id", "") == "Ref" else torch.device(value)
    if isinstance(tree, ast.Attribute):
        return getattr(torch, tree.attr)
    if isinstance(tree, ast.Name):
        return {"inf": math.inf, "nan": math.nan}[tree.id]
    if isinstance(tree, ast.List | ast.Tuple):
        items = [_evaluated(item) for item in tree.elts]
        return items if isinstance(tree, ast.List) else tuple(items)
    if isinstance(tree, ast.UnaryOp):
        return -_evaluated(tree.operand)
    return ast.literal_eval(tree)


def _operator(name: str) -> Any:
    """`aten.add.Tensor` as the operator; `getitem` as Python's."""
    found: Any = torch.ops if "." in name else operator
    for part in name.split("."):
        found = getattr(found, part, None)
    if not (hasattr(found, "_schema") if "." in name else callable(found)):
        raise GraphError(
            f"torch has no operator {name!r}: write its overload, too (aten.add.Tensor), or import the module that "
            "defines it."
        )
    return found


def _type(text: str) -> Type:
    if text.startswith("("):
        return tuple(_type(item) for item in _items(text[1:-1]))
    if text == "None":
        return None
    found = _TENSOR.match(text)
    dtype = getattr(torch, found[1], None) if found else None
    if found is None or not isinstance(dtype, torch.dtype):
        raise GraphError(f"{text!r} is no type: write float32[4,2], or (float32[4], float32[2]) for several.")
    shape = _numbers(found[2])
    stride = _numbers(found[3]) if found[3] else rows(shape)
    return TensorType(shape, stride, dtype, found[4] or "cpu")


def _items(text: str) -> list[str]:
    """The parts of a list of types: commas inside brackets separate nothing."""
    items, depth = [""], 0
    for letter in text:
        depth += (letter in "[(") - (letter in "])")
        if letter == "," and not depth:
            items.append("")
        else:
            items[-1] += letter
    return [item.strip() for item in items if item.strip()]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number)
