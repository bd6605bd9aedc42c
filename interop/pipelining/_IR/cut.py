"""Which stage each node of a captured model belongs to."""

import operator
from typing import Any

from torch import fx

from funpipe.interop.pipelining._IR.marks import is_mark
from funpipe.interop.pipelining._IR.sizes import is_size

_CHECKS = ("aten._assert_tensor_metadata.default", "aten._assert_scalar.default")


def without_checks(graph: fx.Graph) -> None:
    """Removes the checks of dtypes and devices that a capture adds, in place: the stages may be moved elsewhere."""
    for node in reversed(graph.nodes):
        if str(node.target) in _CHECKS:
            graph.erase_node(node)


def stage_of_nodes(graph: fx.Graph) -> dict[fx.Node, int]:
    """The stage of each node that computes something, counted from 0 without holes.

    A mark ends a stage only between two nodes that compute. The parts of a node's several results and its sizes are
    where the node is, and the end of an assignment to a buffer is on the last stage that reads the buffer.

    Args:
        graph: a captured model with its marks.
    """
    stages: dict[fx.Node, int] = {}
    stage, empty, marked = 0, True, False
    for node in graph.nodes:
        if is_mark(node):
            marked = True
        elif node.target is operator.getitem or is_size(node) or _is_stored(node):
            stages[node] = _last(stages, node.all_input_nodes)
        elif node.op in ("call_function", "call_module", "call_method") and not _stores(node):
            stage += marked and not empty
            stages[node], empty, marked = stage, False, False
    for node in filter(_stores, graph.nodes):
        stages[node] = _last(stages, [*node.all_input_nodes, *_readers(graph, node.args[0].target)])
    return stages


def num_stages(stages: dict[fx.Node, int]) -> int:
    """How many stages there are; a model that computes nothing is one."""
    return max(stages.values(), default=0) + 1


def _stores(node: fx.Node) -> bool:
    """Whether a node is the end of an assignment to a buffer, which a capture moves to the end of the graph."""
    return str(node.target) == "aten.copy_.default" and _is_attribute(node.args[0]) and not node.users


def _is_stored(node: fx.Node) -> bool:
    """Whether a node takes a value from autograd for nothing but such assignments."""
    return str(node.target) == "aten.detach.default" and bool(node.users) and all(map(_stores, node.users))


def _is_attribute(value: Any) -> bool:
    return isinstance(value, fx.Node) and value.op == "get_attr"


def _readers(graph: fx.Graph, name: Any) -> list[fx.Node]:
    """The nodes that read an attribute of a model."""
    return [user for node in graph.nodes if node.op == "get_attr" and node.target == name for user in node.users]


def _last(stages: dict[fx.Node, int], nodes: list[fx.Node]) -> int:
    return max((stages[node] for node in nodes if node in stages), default=0)
