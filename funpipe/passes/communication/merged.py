"""What takes the place of collectives that become one."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from funpipe.graphs import Graph, Node
from funpipe.graphs.node import Type
from funpipe.passes.names import Names


class Merged(ABC):
    """One collective for several.

    Args:
        graph: the graph that holds them.
        members: their starts; the collective is started in the place of the last.
        names: for new nodes.
    """

    def __init__(self, graph: Graph, members: tuple[Node, ...], names: Names) -> None:
        self.graph, self.members, self.names = graph, members, names

    @abstractmethod
    def started(self) -> Iterator[Node]:
        """The nodes in the place of the last start."""

    @abstractmethod
    def waited(self, start: Node, wait: Node) -> Iterator[Node]:
        """The nodes in the place of a wait for one of the members; the last has the wait's name.

        Args:
            start: the member.
            wait: one of its waits.
        """

    def new(self, like: Node, name: str, target: Any, args: tuple[Any, ...], kind: Type) -> Node:
        """A node of this bucket, from the same line of the user's as another one."""
        return replace(like, name=name, target=target, args=args, kwargs={}, type=kind, origin="bucket")
