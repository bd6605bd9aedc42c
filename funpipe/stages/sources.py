"""Floating nodes: those that any region recomputes for itself instead of receiving them.

A view costs nothing, so what is saved or sent is the base whose memory it shares, and the view is taken again where it
is needed. A tensor made from numbers alone (a mask, a range) is made again. All other nodes are *owned* by one stage.
"""

import operator
from collections.abc import Iterable

from torch import fx

from funpipe.tracing.operators import is_constant, is_random, is_view


class Sources:
    """For each node of a graph, whether it floats, and the owned nodes and leaves that it is computed from.

    Args:
        graph: a traced graph.
    """

    def __init__(self, graph: fx.Graph) -> None:
        self._constant: set[fx.Node] = set()
        self._floating: set[fx.Node] = set()
        self._of: dict[fx.Node, tuple[fx.Node, ...]] = {}
        for node in graph.nodes:
            if node.op == "call_function":
                self._visit(node)

    def floats(self, node: fx.Node) -> bool:
        """Whether a node is recomputed wherever it is needed."""
        return node in self._floating

    def of(self, node: fx.Node) -> tuple[fx.Node, ...]:
        """The owned nodes and leaves that a node reads, looking through floating ones."""
        return self._of.get(node, ())

    def anchors(self, nodes: Iterable[fx.Node]) -> list[fx.Node]:
        """The nodes themselves where owned or leaves, else what they are computed from."""
        return list(dict.fromkeys(a for n in nodes for a in (self.of(n) if self.floats(n) else (n,))))

    def _visit(self, node: fx.Node) -> None:
        inputs = node.all_input_nodes
        made = is_constant(node) or (inputs and all(i in self._constant for i in inputs))
        if made and not is_random(node):  # drawn again, numbers would be others
            self._constant.add(node)
        if node in self._constant or is_view(node):
            self._floating.add(node)
        self._of[node] = () if node in self._constant else tuple(self.anchors(inputs))


def owner_of(node: fx.Node) -> fx.Node:
    """The node that decides where another one is computed: an item of several outputs goes with its producer."""
    while node.target is operator.getitem and not is_view(node):
        node = node.args[0]  # type: ignore[assignment]
    return node


def ancestors(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """The nodes and all they are computed from."""
    found: set[fx.Node] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += node.all_input_nodes
    return found
