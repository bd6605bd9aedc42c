"""Nodes inside of the arguments of nodes."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import fx


def map_nested(function: Callable[[fx.Node], Any], value: Any) -> Any:
    """An argument with each node replaced; lists of whatever class become lists, tuples tuples.

    Args:
        function: from a node to what takes its place.
        value: an argument, or several.
    """
    if isinstance(value, fx.Node):
        return function(value)
    if isinstance(value, list):
        return [map_nested(function, item) for item in value]
    if isinstance(value, tuple):
        items = [map_nested(function, item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, Mapping):
        return {key: map_nested(function, item) for key, item in value.items()}
    return value


def leaves(value: Any) -> Iterator[Any]:
    """What lies in nested lists, tuples and dicts, in order."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from leaves(item)
    else:
        yield value


def refilled(value: Any, items: Iterator[Any]) -> Any:
    """Nested lists, tuples and dicts like the given ones, with other leaves.

    Args:
        value: how they are nested.
        items: the new leaves, in order.

    Example:
        >>> refilled([1, (2, None)], iter("abc"))
        ['a', ('b', 'c')]
    """
    if isinstance(value, list):
        return [refilled(item, items) for item in value]
    if isinstance(value, tuple):
        return tuple(refilled(item, items) for item in value)
    if isinstance(value, Mapping):
        return {key: refilled(item, items) for key, item in value.items()}
    return next(items)


def nodes_in(value: Any) -> Iterator[fx.Node]:
    """The nodes in an argument, in order, as often as they stand there."""
    return (leaf for leaf in leaves(value) if isinstance(leaf, fx.Node))
