"""Whether the nodes that a pass has made give what their types say."""

from typing import Any

import torch

from funpipe import _compat
from funpipe.functional.objects import knowing
from funpipe.graphs import Graph, Node
from funpipe.graphs.from_fx import type_of
from funpipe.graphs.interpret import call
from funpipe.graphs.node import Type
from funpipe.graphs.stand_in import stand_in


def wrong_type(before: Graph, after: Graph) -> tuple[Node, Type] | None:
    """The first new node whose type is not that of its value.

    Each is run by itself on stand-ins without memory, which have the types of what it reads. One that cannot run on
    them is left to whoever runs the graph, and so is one without a type.

    Args:
        before: nodes that are in it are known.
        after: the graph.

    Returns:
        The node and the type that it should have; None if there is none.
    """
    known = _StandIns(after)
    with torch.no_grad(), knowing(after.objects):
        for node in after.nodes:
            if node.type is not None and before.by_name.get(node.name) is not node:
                found = known.result(node)
                if found is not None and _core(found) != _core(node.type):
                    return node, found
    return None


class _StandIns(dict[str, Any]):
    """Values without memory by name, made when they are read."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.mode = graph, _compat.fake_mode()

    def __missing__(self, name: str) -> Any:
        self[name] = stand_in(self.graph.type_of(name), self.mode)
        return self[name]

    def result(self, node: Node) -> Type:
        """The type of what a node gives; None if that is not known."""
        try:
            with self.mode:
                return type_of(call(node, self))
        except Exception:  # operators without a stand-in form raise what they like
            return None


def _core(kind: Type) -> Any:
    """What has to be right: shapes and dtypes; strides are the operator's own affair."""
    return tuple(map(_core, kind)) if isinstance(kind, tuple) else str(kind)
