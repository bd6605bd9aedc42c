"""Finding what has to move to the next step together with a node."""

from collections.abc import Iterable
from typing import Any

from torch import fx

from funpipe.interop.spmd.errors import SpmdAssertionError, SpmdTypeError, SpmdValueError
from funpipe.interop.spmd.iter_graph import IterGraph
from funpipe.interop.spmd.rewriting.comm_block import get_all_comm_blocks
from funpipe.interop.spmd.rewriting.found import named
from funpipe.interop.spmd.rewriting.optimizer_block import get_fused_optimizer_block, gradients_of, is_fused
from funpipe.interop.spmd.rewriting.split_optimizer import split_fused_optimizer


def find_all_descendants(gm: Any, parent_nodes: Iterable[fx.Node]) -> list[fx.Node]:
    """Nodes and all that depends on them, the output aside.

    Args:
        gm: the graph module.
        parent_nodes: of its graph.

    Returns:
        In the order of the graph.

    Raises:
        SpmdAssertionError: no nodes are given.
        SpmdValueError: one is of another graph: `IterGraphModule(gm)` copies that of `gm`.
    """
    reached = set(parent_nodes)
    if not reached:
        raise SpmdAssertionError("No parent nodes are given. Pass at least one, as find_node gives them.")
    for node in reached.difference(gm.graph.nodes):
        raise SpmdValueError(f"{node} is no node of this graph; take nodes from gm.graph, as find_node gives them.")
    for node in gm.graph.nodes:
        if node.op != "output" and not reached.isdisjoint(node.all_input_nodes):
            reached.add(node)
    return [node for node in gm.graph.nodes if node in reached]


def move_block(gm: Any, target_comm_node: str, target_dest_node: str) -> None:
    """Has a collective, and the part of each fused update that it feeds, run in the next step.

    Args:
        gm: an `IterGraphModule`.
        target_comm_node: the name of the collective.
        target_dest_node: the name of the node that they are to stand before.

    Raises:
        SpmdTypeError: `gm` runs each step by itself.
        SpmdValueError: there is no collective of this name, or it feeds no fused update.
        SpmdIndexError: there is no node to stand before of this name.
    """
    if not isinstance(gm.graph, IterGraph):
        raise SpmdTypeError(
            f"a {type(gm).__name__} has no next step to move work to; wrap it first, as in IterGraphModule(gm)."
        )
    start, target = _collective(gm, target_comm_node), named(gm.graph, target_dest_node)
    adders = [adder for node in _fed(gm, start) for adder in _split_off(gm, node, start)]
    if not adders:
        raise SpmdValueError(
            f"{target_comm_node} is not used by any fused optimizer. Use fused=True in the optimizer, or move nodes "
            "with gm.graph.move_to_next_iter_before(find_all_descendants(gm, [...]), target)."
        )
    roots = [start, *(adder for adder in adders if adder is not start)]
    gm.graph.move_to_next_iter_before(find_all_descendants(gm, roots), target)


def _collective(gm: Any, name: str) -> fx.Node:
    blocks = {block.comm_node.name: block.comm_node for block in get_all_comm_blocks(gm, "all_reduce")}
    if name not in blocks:
        raise SpmdValueError(
            f"Cannot find {name}. The all-reduces are {', '.join(blocks) or 'none'}: name one of them."
        )
    return blocks[name]


def _fed(gm: Any, start: fx.Node) -> list[fx.Node]:
    """The fused updates that depend on a collective."""
    return [node for node in find_all_descendants(gm, [start]) if is_fused(node)]


def _split_off(gm: Any, optim_node: fx.Node, start: fx.Node) -> list[fx.Node]:
    """Splits the part of an update off that depends on a collective; gives what has to move with it."""
    below = set(find_all_descendants(gm, [start]))
    gradients = [gradient for gradient in gradients_of(optim_node) if gradient in below]
    if not gradients:
        return []
    block = get_fused_optimizer_block(optim_node)
    if len(set(gradients)) < len(set(gradients_of(optim_node))):
        block, _ = split_fused_optimizer(gm, block, set(gradients))
    return [block.optim.optim_node if block.step is None else block.step.add_node]
