"""A graph of `torch.fx` as a `Graph`."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, fx

from funpipe._errors import GraphError
from funpipe._typing import TensorType
from funpipe.graphs.graph import Graph
from funpipe.graphs.node import Node, Ref, Type


def from_fx(
    graph: fx.Graph,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    *,
    constants: Mapping[str, Tensor] | None = None,
    objects: Mapping[str, Any] | None = None,
) -> Graph:
    """Reads a graph of operators.

    Args:
        graph: placeholders, calls of operators and `getitem`, and one output; nodes have `meta["val"]`.
        inputs: the names of the placeholders, in order; their own by default.
        outputs: the names of the outputs, in order; `out.0`, `out.1`, … by default.
        constants: tensors behind inputs named `const.NAME`.
        objects: what text arguments of operators name.

    Returns:
        The graph; nodes keep their names, module paths and source lines.

    Raises:
        GraphError: a node calls a module or reads an attribute, or the numbers of names do not fit.

    Example:
        >>> import torch
        >>> from torch.fx.experimental.proxy_tensor import make_fx
        >>> module = make_fx(lambda x: (x.sin() + 1,), tracing_mode="fake")(torch.ones(2))
        >>> print(from_fx(module.graph, ["batch.x"], ["aux.y"]).as_text())
        batch.x: float32[2]
        sin: float32[2] = aten.sin.default(%batch.x)
        add: float32[2] = aten.add.Tensor(%sin, 1)
        return aux.y = %add
    """
    placeholders = graph.find_nodes(op="placeholder")
    named = _named(inputs, [node.name for node in placeholders], "inputs")
    names = dict(zip(placeholders, named, strict=True))
    types = {names[node]: type_of(node.meta.get("val")) for node in placeholders}
    nodes = []
    for node in graph.nodes:
        if node.op == "call_function":
            names[node] = node.name
            nodes.append(_node(node, names))
        elif node.op not in ("placeholder", "output"):
            raise GraphError(
                f"node {node.name!r} is a {node.op}, and a graph holds calls of operators alone: trace the function "
                "with make_fx, which looks into modules, and pass tensors that it closes over as inputs."
            )
    (returned,) = graph.find_nodes(op="output")[0].args
    flat = list(returned) if isinstance(returned, list | tuple) else [returned]
    keys = _named(outputs, [f"out.{i}" for i in range(len(flat))], "outputs")
    values = [_argument(value, names) for value in flat]
    return Graph(types, tuple(nodes), dict(zip(keys, values, strict=True)), constants or {}, objects or {})


def _named(given: Sequence[str] | None, own: list[str], what: str) -> list[str]:
    if given is None:
        return own
    if len(given) != len(own):
        raise GraphError(f"the graph has {len(own)} {what}, and {len(given)} names were given: give one for each.")
    return list(given)


def _node(node: fx.Node, names: Mapping[fx.Node, str]) -> Node:
    meta = node.meta
    return Node(
        name=node.name,
        target=node.target,
        args=tuple(_argument(a, names) for a in node.args),
        kwargs={key: _argument(a, names) for key, a in node.kwargs.items()},
        type=type_of(meta.get("val")),
        path=meta.get("path"),
        source=meta.get("source"),
        origin=meta.get("origin", ""),
    )


def _argument(value: Any, names: Mapping[fx.Node, str]) -> Any:
    """fx keeps lists in classes of its own; here they are plain lists, and tuples tuples."""
    if isinstance(value, fx.Node):
        return Ref(names[value])
    if isinstance(value, list):
        return [_argument(item, names) for item in value]
    if isinstance(value, tuple):
        return tuple(_argument(item, names) for item in value)
    if isinstance(value, Mapping):
        return {key: _argument(item, names) for key, item in value.items()}
    return value


def type_of(value: Any) -> Type:
    """The type of what a node gives: of a tensor, of several results, or None."""
    if isinstance(value, Tensor):
        return TensorType.of(value)
    if isinstance(value, list | tuple):
        return tuple(type_of(item) for item in value)
    return None
