"""A loss function must not write to what it is given: the next step would not see it, or see it twice."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import fx

from funpipe._errors import TraceError
from funpipe.graphs.effects import written_arguments
from funpipe.tracing.operators import IDENTITIES, is_view

_READ_ONLY = ("param", "state", "batch", "axis", "const")


def check_pure(graph: fx.Graph, leaves: Sequence[tuple[str, str]], function: str = "the loss function") -> None:
    """Raises where a traced graph writes to a leaf in place; only buffers may be written to, for they are returned.

    Args:
        graph: not yet free of mutation.
        leaves: the kind and name of each placeholder.
        function: what was traced is called.

    Raises:
        TraceError: the leaf and the user's line are named.
    """
    placeholders = (n for n in graph.nodes if n.op == "placeholder")
    kinds = dict(zip(placeholders, leaves, strict=True))
    for node in graph.nodes:
        for written in _nodes(list(written_arguments(node))):
            kind, name = kinds.get(_memory_of(written), ("", ""))
            if kind in _READ_ONLY:
                raise TraceError(_text(function, kind, name, (node.meta.get("custom") or {}).get("source")))


def _nodes(value: Any) -> Iterator[fx.Node]:
    if isinstance(value, fx.Node):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _nodes(item)


def _memory_of(node: fx.Node) -> fx.Node:
    """The node whose memory a value lies in, in a graph that still has identities."""
    while is_view(node) or node.target in IDENTITIES:
        node = node.args[0]  # type: ignore[assignment]
    return node


def _text(function: str, kind: str, name: str, source: str | None) -> str:
    what = {
        "param": f"the parameter {name!r}",
        "state": f"the state leaf {name!r}" if name else "the state",
        "axis": f"this rank's place along {name!r}",
        "batch": f"the batch leaf {name!r}" if name else "the batch",
        "const": "a tensor that it closes over",
    }[kind]
    buffer = "make the tensor a buffer and return its new value"
    instead = "return the new value in the state" if kind == "state" else buffer
    return (
        f"{function} writes to {what} in place, at {source or 'an unknown line'}. It has to be pure: write to a "
        f"copy (x = x.clone()), or {instead}."
    )
