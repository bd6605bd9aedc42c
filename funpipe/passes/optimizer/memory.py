"""Whose memory a value is, and until when it is read: what decides where a state may be overwritten."""

import operator
from collections import Counter
from functools import cached_property

from funpipe.graphs import Graph, Node, Ref, refs_in
from funpipe.graphs.communication import is_start, is_wait
from funpipe.graphs.effects import is_view


class Memory:
    """What may be overwritten in a graph that overwrites nothing yet.

    A view shares its argument's memory. So, as far as can be known, does what a collective starts, and what its wait
    gives: a tensor on its way must stay as it is until the wait.

    Args:
        graph: the graph.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._shared: dict[str, frozenset[str]] = {}

    def shared(self, name: str) -> frozenset[str]:
        """The values that may lie in a value's memory, itself among them."""
        if name not in self._shared:
            found, queue = {name}, [name]
            while queue:
                readers = self.graph.readers(queue.pop())
                new = [node.name for node in readers if node.name not in found and self._shares(node, found)]
                found.update(new)
                queue += new
            self._shared[name] = frozenset(found)
        return self._shared[name]

    def _shares(self, node: Node, found: set[str]) -> bool:
        if node.target is operator.getitem:  # of several tensors that travel together, and of a view's parts
            return node.reads[0] in found
        return is_start(node) or is_wait(node) or (is_view(self.graph, node) and node.reads[0] in found)

    def readers(self, name: str) -> list[Node]:
        """The nodes that read a value's memory."""
        return [node for shared in self.shared(name) for node in self.graph.readers(shared)]

    def is_read_after(self, name: str, at: int) -> bool:
        """Whether a node behind a position reads a value's memory."""
        return any(self.graph.positions[node.name] > at for node in self.readers(name))

    def reads_of(self, node: Node, name: str) -> int:
        """How many arguments of a node lie in a value's memory."""
        return sum(ref.name in self.shared(name) for ref in refs_in((node.args, dict(node.kwargs))))

    @cached_property
    def _returned(self) -> Counter[str]:
        return Counter(ref.name for ref in refs_in(tuple(self.graph.outputs.values())))

    def is_kept(self, name: str) -> bool:
        """Whether an output lies in a value's memory."""
        return any(shared in self._returned for shared in self.shared(name))

    def is_returned_once(self, name: str) -> bool:
        """Whether a value is one output, and no other output lies in its memory."""
        return sum(self._returned[shared] for shared in self.shared(name)) == 1

    def is_in_flight(self, name: str) -> bool:
        """Whether a value is what a collective has started."""
        node = self.graph.by_name.get(name)
        while node is not None and node.target is operator.getitem:
            node = self.graph.by_name.get(node.reads[0])
        return node is not None and is_start(node)

    def successor(self, name: str, output: str) -> str | None:
        """The value that an input becomes, and that may have its place; None if the input must stay as it is.

        Args:
            name: of the input.
            output: of the output that is its next value.
        """
        graph, value = self.graph, self.graph.outputs.get(output)
        if not isinstance(value, Ref) or value.name in graph.inputs:
            return None
        same = graph.type_of(value.name) == graph.inputs[name]
        may = same and self.is_returned_once(value.name) and not self.is_kept(name)
        return value.name if may and not self.is_in_flight(value.name) else None
