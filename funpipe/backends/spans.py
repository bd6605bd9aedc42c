"""Spans for a profiler: what a step is doing, by where its nodes come from.

    0.weight … 3 · bucket        a segment: the modules its operators ran in, and the passes that made some
    all_reduce dp                communication

They show in whatever reads `torch.profiler.record_function`. A span takes some microseconds, so a step has them only
where they are asked for.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

from torch import fx
from torch.profiler import record_function

from funpipe.functional.communication import Communicator
from funpipe.graphs.node import Node


def span(label: str) -> AbstractContextManager[Any]:
    """A span of a profiler, with the name by which all of this package's are found."""
    return record_function(f"funpipe {label}")


def spanned(label: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that runs in a span.

    Args:
        label: of the span.
        function: what runs.
    """

    def run(*given: Any) -> Any:
        with span(label):
            return function(*given)

    return run


def label_of(graph: fx.Graph) -> str:
    """What a segment is, from its nodes: the modules they ran in, and the passes that made them.

    Args:
        graph: of the segment; nodes have `meta["path"]` and `meta["origin"]` where they come from somewhere.
    """
    paths = list(_noted(graph, "path"))
    modules = paths[0] if len(paths) == 1 else f"{paths[0]} … {paths[-1]}" if paths else "step"
    return " · ".join([modules, *_noted(graph, "origin")])


def _noted(graph: fx.Graph, key: str) -> Iterable[str]:
    return dict.fromkeys(node.meta[key] for node in graph.nodes if node.meta.get(key))


def label_of_node(node: Node) -> str:
    """What one operator is: its name, and where it comes from."""
    return " · ".join(part for part in (node.where, node.path, node.origin) if part)


class SpannedCommunicator:
    """A communicator whose calls are spans.

    Args:
        communicator: does the work.
    """

    def __init__(self, communicator: Communicator) -> None:
        self.communicator = communicator

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.communicator, name)

        def call(*given: Any) -> Any:
            axes = [value for value in given if isinstance(value, str) and value in _AXES]
            with span(" ".join([name, *axes])):
                return method(*given)

        return call


_AXES = ("dp", "pp", "world")
