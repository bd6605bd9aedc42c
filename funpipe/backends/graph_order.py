"""The order of communication in the source of a graph, read back and compared with the graph."""

import re
from collections.abc import Mapping
from itertools import zip_longest

from funpipe._errors import CompileError
from funpipe.functional.communication import WAIT
from funpipe.graphs.communication import is_communication
from funpipe.graphs.graph import Graph
from funpipe.graphs.node import Node

_CALL = re.compile(r"(?:(?P<value>\w+) = )?communicator\.(?P<method>\w+)\(")


def communication(graph: Graph, variables: Mapping[str, str]) -> list[str]:
    """The communication of a graph, in order: the method that is called, with the variable of its value if it has one.

    Args:
        graph: the graph.
        variables: of its nodes, by name.
    """
    return [_said(node, variables) for node in graph.nodes if is_communication(node)]


def _said(node: Node, variables: Mapping[str, str]) -> str:
    method = "wait" if node.target is WAIT else str(node.target).split(".")[1]
    return f"{variables[node.name]} = {method}" if node.type is not None else method


def written_communication(source: str) -> list[str]:
    """The communication of a source, in order."""
    found = (_CALL.match(line.strip()) for line in source.splitlines())
    return [f"{call['value']} = {call['method']}" if call["value"] else call["method"] for call in found if call]


def check_order(graph: Graph, source: str, variables: Mapping[str, str]) -> None:
    """Raises unless a source communicates exactly as its graph says.

    Args:
        graph: what was written.
        source: the function.
        variables: of the graph's nodes, by name.

    Raises:
        CompileError: an operation is missing, or in another place; the first difference is named.
    """
    pairs = zip_longest(communication(graph, variables), written_communication(source), fillvalue="nothing")
    for at, (want, have) in enumerate(pairs):
        if want != have:
            raise CompileError(
                f"the source of the step moved communication: operation {at} should be {want!r} and is {have!r}. "
                "The step was not run; use backend='interpret' and report the graph with this text."
            )
