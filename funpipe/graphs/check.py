"""What every graph promises: names are unique, values are made before they are read, nothing is read in flight."""

import operator

from funpipe._errors import GraphError
from funpipe.functional.communication import OPERATORS
from funpipe.graphs.communication import is_start, is_wait
from funpipe.graphs.graph import Graph
from funpipe.graphs.near import near
from funpipe.graphs.node import Node

_COALESCED = OPERATORS.all_reduce_coalesced.default


def check(graph: Graph) -> None:
    """Raises unless a graph is well formed.

    Args:
        graph: the graph.

    Raises:
        GraphError: a name is taken twice, a value is read before it is made, an output is no value, a constant is
            missing, or something reads what a collective has started and not waited for, or waits for it twice.

    Example:
        >>> from funpipe.passes.communication.example import example
        >>> graph = example()
        >>> check(graph.replace(nodes=graph.nodes[::-1]))
        Traceback (most recent call last):
        funpipe._errors.GraphError: u1 (aten.sub.Tensor) reads %w1, which is made behind it: order nodes by data flow \
(graphs.sorted_stably does).
    """
    known, in_flight = set(graph.inputs), _InFlight(graph)
    for node in graph.nodes:
        _check_reads(graph, node, known)
        in_flight.check(node)
        if node.name in known:
            raise GraphError(f"two values have the name {node.name!r}: name the new one graph.fresh({node.name!r}).")
        known.add(node.name)
    _check_outputs(graph, known)
    missing = [name for name in graph.inputs if name.startswith("const.") and name not in graph.constants]
    if missing:
        raise GraphError(f"the input {missing[0]!r} has no tensor in constants: add it, or name the input otherwise.")


def _check_reads(graph: Graph, node: Node, known: set[str]) -> None:
    for name in node.reads:
        if name in known:
            continue
        if name in graph.by_name:
            raise GraphError(
                f"{node.where} reads %{name}, which is made behind it: order nodes by data flow "
                "(graphs.sorted_stably does)."
            )
        raise GraphError(f"{node.where} reads %{name}, which the graph does not have; {near(name, known)}")


def in_flight(graph: Graph) -> frozenset[str]:
    """The names of values that are started, and that a later step waits for where this one does not.

    Args:
        graph: the graph.
    """
    return frozenset(_InFlight(graph).names)


class _InFlight:
    """What is started and not waited for: results of collectives, parts of coalesced ones, inputs that a wait reads."""

    def __init__(self, graph: Graph) -> None:
        self.lists = {node.name for node in graph.nodes if node.target is _COALESCED}
        self.names = {node.name for node in graph.nodes if is_start(node) or self._is_part(node)}
        self.names |= {name for node in graph.nodes if is_wait(node) for name in node.reads if name in graph.inputs}
        self.ends: dict[str, str] = {}

    def _is_part(self, node: Node) -> bool:
        return node.target is operator.getitem and not self.lists.isdisjoint(node.reads)

    def check(self, node: Node) -> None:
        """Raises if a node reads what is in flight, or waits for what is not, or no longer."""
        for name in node.reads:
            if is_wait(node):
                self._check_wait(node, name)
            elif name in self.names and not self._is_part(node):
                raise GraphError(
                    f"{node.where} reads %{name} while it is on its way: read what wait_tensor(%{name}) gives instead."
                )

    def _check_wait(self, node: Node, name: str) -> None:
        if name not in self.names or name in self.lists:
            raise GraphError(f"{node.where} waits for %{name}, which no collective started: wait for a start.")
        first = self.ends.setdefault(name, node.name)
        if first != node.name:
            raise GraphError(f"{node.where} waits for %{name} again: read %{first}, which is what came.")


def _check_outputs(graph: Graph, known: set[str]) -> None:
    for name in sorted(graph.returned):
        if name not in known:
            raise GraphError(f"an output is %{name}, which the graph does not have; {near(name, known)}")
