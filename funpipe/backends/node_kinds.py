"""What a node is to a compiled step: computed in a segment, called by itself, a number, or made where it is read."""

import operator

from funpipe._typing import TensorType
from funpipe.graphs.communication import is_communication
from funpipe.graphs.effects import is_view, writes
from funpipe.graphs.graph import Graph, Node
from funpipe.graphs.node import operator_name

_LISTS = ("aten._fused_", "aten._foreach_", "funpipe_optim.")
"""How operators over lists begin that are called as they are."""


class Kinds:
    """What each node of a graph is."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.python = {n.name for n in graph.nodes if not _gives_tensors(n) and not _gives_nothing(n)}
        self.numbers: set[str] = set()
        for node in graph.nodes:
            if self._is_number(node):
                self.numbers.add(node.name)
        self.called = self._read_by_calls()

    def is_station(self, node: Node) -> bool:
        """Whether a node is called as it is."""
        if node.name in self.numbers or self.floats(node):
            return False
        called = is_communication(node) or self._is_list(node) or node.name in self.called
        return called or self._writes_number(node)

    def floats(self, node: Node) -> bool:
        """Whether a node is made where it is read."""
        if is_communication(node) or writes(node) or node.name in self.python:
            return False
        if not node.reads:
            return node.name not in self.called
        return is_view(self.graph, node) or is_part(node)

    def _read_by_calls(self) -> set[str]:
        """Tensors made from numbers that a station reads, a node overwrites, or are returned: calls make them, too."""
        found = {*self.graph.returned, *(name for node in self.graph.nodes for name in writes(node))}
        for node in reversed(self.graph.nodes):
            if is_communication(node) or self._is_list(node) or (node.name in found and is_view(self.graph, node)):
                found.update(node.reads)
        return found.intersection(node.name for node in self.graph.nodes if not node.reads)

    def _is_list(self, node: Node) -> bool:
        """Whether a node is an operator over lists, or takes or gives a Python number."""
        lists = operator_name(node.target).startswith(_LISTS)
        return lists or node.name in self.python or not self.python.isdisjoint(node.reads)

    def _writes_number(self, node: Node) -> bool:
        return any(_is_single(self.graph.type_of(name)) for name in writes(node))

    def _is_number(self, node: Node) -> bool:
        """Whether a node computes single numbers from single numbers that were there when the step began."""
        if is_communication(node) or writes(node) or not node.reads or not _is_single(node.type):
            return False
        known = (n in self.numbers or (n in self.graph.inputs and _is_single(self.graph.inputs[n])) for n in node.reads)
        return all(known)


def is_part(node: Node) -> bool:
    """Whether a node is one of several results of another."""
    return node.target is operator.getitem


def _is_single(kind: object) -> bool:
    if isinstance(kind, tuple):
        return bool(kind) and all(map(_is_single, kind))
    return isinstance(kind, TensorType) and kind.numel <= 1


def _gives_tensors(node: Node) -> bool:
    return isinstance(node.type, TensorType | tuple)


def _gives_nothing(node: Node) -> bool:
    """Whether an operator has no result, such as a send."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and not schema.returns
