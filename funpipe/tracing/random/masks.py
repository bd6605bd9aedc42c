"""Masks of dropout in a traced graph: bytes, and the floats that are multiplied with made of them where they are read.

On a CPU torch draws a mask into new memory and divides it in place by the probability to keep:

    noise = empty_like(x).bernoulli_(1 - p).div_(1 - p)
    out   = x * noise                                      the backward multiplies with the same noise

So the graph has writes, but to memory that nobody else sees, and they are taken out here. What a backward keeps is the
mask of bytes: the operators between it and the noise are cheap, and run again.
"""

import torch
from torch import fx

from funpipe.functional.random.draws import KEEP

aten = torch.ops.aten

_NEW = (aten.empty_like.default, aten.empty.memory_format, aten.new_empty.default)
_FUNCTIONAL = {
    aten.div_.Tensor: aten.div.Tensor,
    aten.div_.Scalar: aten.div.Scalar,
    aten.mul_.Tensor: aten.mul.Tensor,
    aten.mul_.Scalar: aten.mul.Scalar,
}
_OF_MASK = frozenset({aten._to_copy.default, *_FUNCTIONAL.values()})


def write_new_masks(graph: fx.Graph) -> None:
    """Takes out writes to new memory: of what was drawn, and of what is done with it in place.

    Args:
        graph: as the tracer left it; changed.
    """
    for node in list(graph.nodes):
        if node.target is aten.copy_.default and _is_new(node):
            node.replace_all_uses_with(node.args[1])
            graph.erase_node(node)
        elif node.target in _FUNCTIONAL and _is_new_mask(node):
            node.target = _FUNCTIONAL[node.target]


def _is_new(node: fx.Node) -> bool:
    """Whether a copy fills memory that nothing else reads, with a value of the same layout that nothing else reads."""
    into, value = node.args[:2]
    if not isinstance(into, fx.Node) or not isinstance(value, fx.Node) or into.target not in _NEW:
        return False
    alone = len(into.users) == 1 and len(value.users) == 1
    return alone and is_of_mask(value) and into.meta["val"].stride() == value.meta["val"].stride()


def _is_new_mask(node: fx.Node) -> bool:
    (read,) = node.all_input_nodes[:1]
    return is_of_mask(read) and len(read.users) == 1 and node.meta["val"].dtype == read.meta["val"].dtype


def is_of_mask(node: fx.Node) -> bool:
    """Whether a value is made of a mask of bytes and numbers alone, and is not the mask itself.

    Args:
        node: of a raw graph.
    """
    if node.target not in _OF_MASK or len(node.all_input_nodes) != 1:
        return False
    (read,) = node.all_input_nodes
    return read.target is KEEP or is_of_mask(read)
