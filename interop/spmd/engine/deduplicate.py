"""Removes collectives that were asked for twice."""

from typing import Any

from torch import fx

from funpipe.functional.communication import STARTS, WAIT


def without_duplicates(module: fx.GraphModule) -> fx.GraphModule:
    """Keeps the first of several equal collectives, and of several waits for one.

    Args:
        module: changed in place.

    Returns:
        The same module.
    """
    known: dict[Any, fx.Node] = {}
    for node in list(module.graph.nodes):
        if node.target in STARTS or node.target is WAIT:
            key = (node.target, *map(repr, node.args))
            first = known.setdefault(key, node)
            if first is not node:
                node.replace_all_uses_with(first)
                module.graph.erase_node(node)
    module.recompile()
    return module
