"""What a search in a graph gives: a list whose missing items say what there is."""

from collections.abc import Iterable
from typing import Any

from torch import fx

from funpipe.graphs.near import near
from funpipe.interop.spmd.errors import SpmdIndexError

_SHOWN = 20
"""So many names fit into a message."""


class Found(list[Any]):
    """The nodes that a search found; an item that is not there is an error that lists names of the graph.

    Args:
        nodes: those found.
        graph: where they were looked for.
    """

    def __init__(self, nodes: Iterable[fx.Node], graph: fx.Graph) -> None:
        super().__init__(nodes)
        self._names = [node.name for node in graph.nodes]

    def __getitem__(self, index: Any) -> Any:
        """An item, or a plain list for a slice.

        Raises:
            SpmdIndexError: there is none.
        """
        if isinstance(index, int) and not -len(self) <= index < len(self):
            raise SpmdIndexError(self._missing(index))
        return super().__getitem__(index)

    def _missing(self, index: int) -> str:
        if len(self):
            return f"{len(self)} nodes were found, and item {index} was asked for; use one of 0 to {len(self) - 1}."
        shown = ", ".join(self._names[:_SHOWN]) + (", …" if len(self._names) > _SHOWN else "")
        return f"no node fits; the graph has {shown}: ask for one of these."


def named(graph: fx.Graph, name: str) -> fx.Node:
    """The node of a name.

    Args:
        graph: the graph.
        name: of the node.

    Raises:
        SpmdIndexError: there is none; near names are listed.
    """
    known = {node.name: node for node in graph.nodes}
    if name not in known:
        raise SpmdIndexError(f"Cannot find {name} among the nodes of the graph; {near(name, known)}")
    return known[name]
