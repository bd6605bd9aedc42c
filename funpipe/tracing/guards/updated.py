"""A value that a function reads from a buffer that it updates itself is another one for each microbatch."""

from collections.abc import Iterable, Mapping

from torch import fx

from funpipe.tracing.guards.guard import Guard


def read_and_updated(guards: Iterable[Guard], outputs: Mapping[str, fx.Node]) -> frozenset[str]:
    """The buffers that a guard reads and that the function returns changed: no constant can stand for what was read.

    Args:
        guards: of a trace.
        outputs: the nodes that it returns, by name; those of buffers are `buffer.NAME`.

    Returns:
        Their names.

    Example:
        >>> read_and_updated([], {})
        frozenset()
    """
    read = {name for guard in guards for kind, name in guard.leaves if kind == "buffer"}
    return frozenset(name for name in read if not is_kept(name, outputs))


def is_kept(buffer: str, outputs: Mapping[str, fx.Node]) -> bool:
    """Whether a function leaves a buffer as it is.

    Args:
        buffer: its name.
        outputs: what the function returns, as for `read_and_updated`.

    Returns:
        True as well where the function returns no buffer of this name.

    Example:
        >>> is_kept("mask", {})
        True
    """
    node = outputs.get(f"buffer.{buffer}")
    return node is None or node.meta.get("leaf") == ("buffer", buffer)
