"""The types of calls that somebody has inserted into a traced graph of fx: passes need them, and users note none."""

import operator
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from funpipe import _compat
from funpipe._errors import GraphError
from funpipe._typing import TensorType
from funpipe.graphs.stand_in import stand_in


def complete(graph: fx.Graph) -> None:
    """Notes `meta["val"]` of each call of an operator that has none, from what it reads.

    Args:
        graph: is changed; placeholders that calls read have `meta["val"]`.

    Raises:
        GraphError: a call cannot take what it is given.
    """
    mode = _compat.fake_mode()
    for node in graph.nodes:
        if _is_operator(node) and _lacks(node) and not any(map(_lacks, node.all_input_nodes)):
            node.meta["val"] = _value(node, mode)


def _is_operator(node: fx.Node) -> bool:
    """Whether a node does nothing but compute; a function of the user is not called before the step runs."""
    if node.op != "call_function":
        return False
    name = getattr(node.target, "__name__", "")
    is_own = hasattr(node.target, "overloadpacket") or hasattr(node.target, "overloads")
    return is_own or any(getattr(module, name, None) is node.target for module in (torch, operator))


def _lacks(node: fx.Node) -> bool:
    return "val" not in node.meta


def _value(node: fx.Node, mode: Any) -> Any:
    args, kwargs = map_arg((node.args, dict(node.kwargs)), lambda n: _again(n.meta["val"], mode))
    try:
        with mode:
            return node.target(*args, **kwargs)  # type: ignore[operator]
    except Exception as error:
        raise GraphError(
            f"{node.name!r}, which was inserted into the graph, cannot take what it is given: {error}. Look at the "
            "shapes and dtypes of its arguments, which each has in meta['val']."
        ) from error


def _again(value: Any, mode: Any) -> Any:
    """A stand-in of the same type; those of several traces cannot be mixed."""
    if isinstance(value, Tensor):
        return stand_in(TensorType.of(value), mode)
    return [_again(item, mode) for item in value] if isinstance(value, list | tuple) else value
