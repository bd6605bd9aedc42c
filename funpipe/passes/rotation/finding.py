"""Looking for what is to be deferred: the collectives of a number, the operators that make a leaf."""

import operator
from collections.abc import Callable, Collection, Iterable, Sequence

from funpipe._errors import RotateError
from funpipe.graphs.communication import axis_of, is_message, is_start, is_wait
from funpipe.graphs.graph import Graph
from funpipe.graphs.near import near
from funpipe.graphs.node import Node, refs_in
from funpipe.graphs.search import closure

STATE = "state."
"""The prefix of a graph's inputs and outputs that are leaves of the state."""


def behind(graph: Graph, roots: Iterable[str]) -> frozenset[str]:
    """The names of nodes and of all that depend on them."""
    return frozenset(node.name for node in closure(graph, roots))


def starts(graph: Graph, numbers: Sequence[int], axis: str | None) -> list[str]:
    """The collectives of some numbers, in the order in which they start; without numbers all that may be deferred.

    If there are none of these all are returned, so that the error says what reads them.

    Args:
        graph: the graph.
        numbers: negative ones count from the end.
        axis: number those on one axis alone; None: all.

    Raises:
        RotateError: there is no such collective.
    """
    found = [node.name for node in graph.nodes if is_start(node) and axis in (None, axis_of(node))]
    for number in numbers:
        if not -len(found) <= number < len(found):
            on = f" on axis {axis!r}" if axis else ""
            offer = f"use a number from 0 to {len(found) - 1}." if found else leaves_text(graph)
            raise RotateError(f"there is no collective {number}{on}: the graph has {len(found)}; {offer}")
    if numbers:
        return [found[number] for number in numbers]
    return [name for name in found if _may_be_deferred(graph, name)] or found


def _may_be_deferred(graph: Graph, name: str) -> bool:
    """Whether nothing but the new state depends on a node."""
    behind_it = closure(graph, [name])
    results = {ref.name for n, v in graph.outputs.items() if not n.startswith(STATE) for ref in refs_in(v)}
    return not any(is_message(node) or node.name in results for node in behind_it)


def leaves_text(graph: Graph) -> str:
    """What to use instead, with leaves that the graph has."""
    names = [name.removeprefix(STATE) for name in graph.outputs if name.startswith(STATE)]
    more = ", …" if len(names) > 4 else ""
    return f"passes.updates(names) takes leaves of the state: {', '.join(map(repr, names[:4]))}{more}."


def waits_of(graph: Graph, numbers: Sequence[int], axis: str | None) -> list[str]:
    """The waits of `starts`: of a coalesced collective those of its parts."""
    started = {*starts(graph, numbers, axis)}
    started |= {n.name for n in graph.nodes if n.target is operator.getitem and n.reads[0] in started}
    return [node.name for node in graph.nodes if is_wait(node) and node.reads[0] in started]


def makers(graph: Graph, leaves: Collection[str] | Callable[[str], bool]) -> list[str]:
    """The operators that make new leaves of the state; of one with several results the operator.

    Args:
        graph: the graph.
        leaves: their names, or a predicate of names.

    Raises:
        RotateError: the state has no such leaf.
    """
    state = [name.removeprefix(STATE) for name in graph.outputs if name.startswith(STATE)]
    if callable(leaves):
        names = [name for name in state if leaves(name)]
    else:
        names = [leaves] if isinstance(leaves, str) else list(leaves)
    for name in names:
        if name not in state:
            raise RotateError(f"updates names {name!r}, which is no leaf of the state; {near(name, state)}")
    values = [ref.name for name in names for ref in refs_in(graph.outputs[f"{STATE}{name}"])]
    return [_source(graph, graph.by_name[value]).name for value in values if value in graph.by_name]


def _source(graph: Graph, node: Node) -> Node:
    """The operator of which a node is one of several results."""
    while node.target is operator.getitem and node.reads[0] in graph.by_name:
        node = graph.by_name[node.reads[0]]
    return node
