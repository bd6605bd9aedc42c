"""A graph as plain data, which pickles where operators do not."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.fx.node import map_aggregate

from funpipe.interop.pipelining.errors import PipeAttributeError


@dataclass(frozen=True)
class Value:
    """The result of an earlier call.

    Args:
        name: of that call.
    """

    name: str


@dataclass(frozen=True)
class Operator:
    """An operator below `torch.ops`.

    Args:
        name: `aten.add.Tensor`, or the bare name of an operator of higher order.
    """

    name: str


@dataclass(frozen=True)
class Call:
    """A node of a graph.

    Args:
        op: what kind of node it is, in the words of `torch.fx`.
        name: of its result.
        target: what it calls; functions go by reference.
        args: its positional arguments, earlier results as `Value`.
        kwargs: its keyword arguments.
        meta: what is kept of its metadata.
    """

    op: str
    name: str
    target: Any
    args: Any
    kwargs: Any
    meta: dict[str, Any]


def calls_of(graph: fx.Graph) -> tuple[Call, ...]:
    """A graph as data.

    Args:
        graph: any graph whose other functions can be imported by name.

    Example:
        >>> graph = fx.Graph()
        >>> out = graph.output(graph.call_function(torch.ops.aten.sin.default, (graph.placeholder("x"),)))
        >>> [call.target for call in calls_of(graph)]
        ['x', Operator(name='aten.sin.default'), 'output']
    """
    return tuple(_call(node) for node in graph.nodes)


def graph_of(calls: tuple[Call, ...]) -> fx.Graph:
    """The graph that `calls_of` was given."""
    graph, nodes = fx.Graph(), {}

    def value(arg: Any) -> Any:
        return nodes[arg.name] if isinstance(arg, Value) else arg

    for call in calls:
        target = _operator(call.target.name) if isinstance(call.target, Operator) else call.target
        args, kwargs = map_aggregate(call.args, value), map_aggregate(call.kwargs, value)
        nodes[call.name] = graph.create_node(call.op, target, args, kwargs, call.name)  # type: ignore[arg-type]
        nodes[call.name].meta = dict(call.meta)
    return graph


def _call(node: fx.Node) -> Call:
    target = node.target
    if not isinstance(target, str) and _found(str(target)) is target:
        target = Operator(str(target))
    meta = {key: value for key, value in node.meta.items() if key != "val"}
    return Call(node.op, node.name, target, _plain(node.args), _plain(node.kwargs), meta)


def _plain(args: Any) -> Any:
    """Arguments as tuples, lists and dicts of plain values."""
    if isinstance(args, fx.Node):
        return Value(args.name)
    if isinstance(args, tuple) and not hasattr(args, "_fields"):
        return tuple(map(_plain, args))
    if isinstance(args, list):
        return list(map(_plain, args))
    if isinstance(args, dict):
        return {key: _plain(value) for key, value in args.items()}
    if isinstance(args, slice):
        return slice(_plain(args.start), _plain(args.stop), _plain(args.step))
    return args


def _operator(name: str) -> Any:
    found = _found(name)
    if found is None:
        raise PipeAttributeError(
            f"the stage calls the operator {name}, which does not exist in this process; "
            "import the library that defines it before loading the stage."
        )
    return found


def _found(name: str) -> Any:
    """The operator of a name; None: there is none."""
    found: Any = torch.ops
    parts = name.split(".") if "." in name else ["higher_order", name]
    for part in parts:
        try:
            found = getattr(found, part)
        except (AttributeError, RuntimeError):
            return None
    return found
