"""Other nodes in place of calls over lists, all put into a graph at once."""

from collections.abc import Sequence

from funpipe.graphs import Graph, Node, Ref, map_refs
from funpipe.passes.optimizer.inline import Inliner
from funpipe.passes.optimizer.list_calls import ListCall, takers, write_lists


class Replacements:
    """What takes the place of calls over lists.

    Args:
        inliner: that writes the new nodes; its graph has the calls.
    """

    def __init__(self, inliner: Inliner) -> None:
        self.inliner = inliner
        self._instead: dict[str, Sequence[Node]] = {}
        self._gone: set[str] = set()
        self._passed: dict[str, str] = {}

    def by_nodes(self, call: ListCall, nodes: Sequence[Node], new: Sequence[str]) -> None:
        """Written nodes in place of a call; they take over the names of its results.

        Args:
            call: the call.
            nodes: what takes its place.
            new: for each of its results the value that it now is, row by row.
        """
        own = {node.name for node in nodes}
        renamed: dict[str, str] = {}
        for value, readers in zip(new, (found for row in call.results for found in row), strict=True):
            for reader in readers:
                if value in own and value not in renamed:
                    renamed[value] = reader.name
                else:
                    now = renamed.get(value, value)
                    self._passed[reader.name] = self._passed.get(now, now)
        self._put(call, self.inliner.rename(nodes, renamed))

    def by_call(self, old: ListCall, before: Sequence[Node], new: ListCall) -> None:
        """Another call over lists in place of one; the values of its results keep their names.

        Args:
            old: the call that goes.
            before: written nodes that the new one reads.
            new: the call that takes its place.
        """
        self._put(old, [*before, *write_lists(new, self.inliner.names, self.inliner.origin)])

    def _put(self, call: ListCall, nodes: Sequence[Node]) -> None:
        self._instead[call.node.name] = nodes
        self._gone |= takers(self.inliner.graph, call)

    def graph(self) -> Graph:
        """The graph with all of them."""
        graph, passed = self.inliner.graph, self._passed
        nodes: list[Node] = []
        for node in graph.nodes:
            nodes += self._instead.get(node.name, () if node.name in self._gone else (node,))
        outputs = {n: map_refs(lambda r: Ref(passed.get(r.name, r.name)), v) for n, v in graph.outputs.items()}
        return graph.replace(nodes=tuple(node.renamed(passed) for node in nodes), outputs=outputs)
