"""What a traced function may not call: collectives of `torch.distributed`, which no pass could order or move."""

from typing import Any

from torch import fx

from funpipe._errors import TraceError

_NAMESPACES = ("c10d", "_c10d_functional", "_c10d_functional_autograd", "c10d_functional")
"""Of the operators that `torch.distributed` calls."""


def check_own_collectives(graph: fx.Graph, what: str) -> None:
    """Raises where a traced graph communicates through `torch.distributed`.

    Args:
        graph: as traced.
        what: was traced, as errors call it.

    Raises:
        TraceError: the user's line is named.
    """
    for node in graph.nodes:
        if getattr(node.target, "namespace", None) in _NAMESPACES:
            raise TraceError(foreign_text(node, f"calls {node.target}", what))


def object_text(value: Any, node: fx.Node, what: str) -> str:
    """The message for an object that is no tensor and that an operator takes, such as a process group.

    Args:
        value: the object.
        node: that stands for it.
        what: was traced.
    """
    reader = next(iter(node.users), node)
    return foreign_text(reader, f"gives a {type(value).__name__} to {reader.target}", what)


def foreign_text(node: fx.Node, does: str, what: str) -> str:
    """The message for a call, with the user's line and the remedy."""
    source = (node.meta.get("custom") or {}).get("source") or "an unknown line"
    return (
        f"{what} {does} at {source}, and the collectives of torch.distributed cannot be traced: use fp.psum, fp.pmean, "
        "fp.all_gather or fp.reduce_scatter in a step for fp.trace_step, or communicate outside of it."
    )
