"""Removes sums over ranks of what is the same on all of them."""

from collections.abc import Collection

from torch import fx

from funpipe.functional.communication import STARTS, WAIT


def without_reductions_of_replicated(module: fx.GraphModule, parts: Collection[str]) -> fx.GraphModule:
    """Keeps the reductions of values that a part of the batch has gone into; the others would multiply them.

    Args:
        module: `meta["inputs"]` names its placeholders; changed in place.
        parts: the inputs that differ from rank to rank.

    Returns:
        The same module.
    """
    names = dict(zip(module.graph.find_nodes(op="placeholder"), module.meta["inputs"], strict=True))
    differs: set[fx.Node] = set()
    for node in list(module.graph.nodes):
        if names.get(node) in parts or differs.intersection(node.all_input_nodes):
            differs.add(node)
        elif node.target in STARTS or node.target is WAIT:
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
    module.recompile()
    return module
