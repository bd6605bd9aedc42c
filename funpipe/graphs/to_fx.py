"""A `Graph` as a graph of `torch.fx`."""

import re
from collections.abc import Mapping
from typing import Any

from torch import fx

from funpipe import _compat
from funpipe.graphs.graph import Graph
from funpipe.graphs.node import Node, map_refs
from funpipe.graphs.stand_in import stand_in


def to_fx(graph: Graph) -> fx.GraphModule:
    """Writes a graph as a module: flat inputs in order, a tuple of outputs in order.

    Args:
        graph: the graph.

    Returns:
        The module. Nodes keep their names, and an input whose name holds dots has underscores there; `meta["val"]` are
        stand-ins without memory, and `meta["leaf"]` of an input is its name.

    Example:
        >>> import torch
        >>> from funpipe._typing import TensorType
        >>> from funpipe.graphs import Graph, Node, Ref
        >>> kind = TensorType((2,), (1,), torch.float32)
        >>> node = Node("sin", torch.ops.aten.sin.default, (Ref("batch.x"),), type=kind)
        >>> to_fx(Graph({"batch.x": kind}, (node,), {"aux.y": Ref("sin")}))(torch.zeros(2))
        (tensor([0., 0.]),)
    """
    made = fx.Graph()
    mode = _compat.fake_mode()
    copies: dict[str, fx.Node] = {}
    for name, kind in graph.inputs.items():
        copies[name] = made.placeholder(re.sub(r"\W", "_", name) or "input")
        copies[name].meta |= {"val": stand_in(kind, mode), "leaf": name}
    for node in graph.nodes:
        copies[node.name] = _call(made, node, copies, mode)
    made.output(tuple(_argument(value, copies) for value in graph.outputs.values()))
    return fx.GraphModule({}, made)


def _call(made: fx.Graph, node: Node, copies: Mapping[str, fx.Node], mode: object) -> fx.Node:
    args = tuple(_argument(a, copies) for a in node.args)
    kwargs = {key: _argument(a, copies) for key, a in node.kwargs.items()}
    call = made.create_node("call_function", node.target, args, kwargs, name=node.name)
    call.meta |= {"val": stand_in(node.type, mode), "path": node.path, "source": node.source, "origin": node.origin}
    return call


def _argument(value: Any, copies: Mapping[str, fx.Node]) -> Any:
    return map_refs(lambda ref: copies[ref.name], value)
