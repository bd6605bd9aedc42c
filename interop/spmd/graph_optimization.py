"""Passes over the graph of a training step, under the names that torch.distributed._spmd had for them."""

from typing import Any

import torch

from funpipe.interop.spmd.errors import SpmdAssertionError, SpmdValueError
from funpipe.interop.spmd.graph_utils import CommType as CommType
from funpipe.interop.spmd.rewriting.comm_block import CommBlock as CommBlock
from funpipe.interop.spmd.rewriting.comm_block import get_all_comm_blocks as get_all_comm_blocks
from funpipe.interop.spmd.rewriting.comm_block import get_comm_block as get_comm_block
from funpipe.interop.spmd.rewriting.contract import _apply_before_sets as _apply_before_sets
from funpipe.interop.spmd.rewriting.contract import _prerequisite_sets as _prerequisite_sets
from funpipe.interop.spmd.rewriting.contract import graph_optimization_pass as graph_optimization_pass
from funpipe.interop.spmd.rewriting.convert import graph_of, write_back
from funpipe.interop.spmd.rewriting.dump import enable_graph_optimization_dump as enable_graph_optimization_dump
from funpipe.interop.spmd.rewriting.fusion import fusion
from funpipe.interop.spmd.rewriting.moving import find_all_descendants as find_all_descendants
from funpipe.interop.spmd.rewriting.moving import move_block
from funpipe.interop.spmd.rewriting.optimizer_block import AdamArgs as AdamArgs
from funpipe.interop.spmd.rewriting.optimizer_block import ForeachAddBlock as ForeachAddBlock
from funpipe.interop.spmd.rewriting.optimizer_block import FusedAdamBlock as FusedAdamBlock
from funpipe.interop.spmd.rewriting.optimizer_block import FusedOptimizerBlock as FusedOptimizerBlock
from funpipe.interop.spmd.rewriting.optimizer_block import (
    get_all_fused_optimizer_blocks as get_all_fused_optimizer_blocks,
)
from funpipe.interop.spmd.rewriting.optimizer_block import get_fused_optimizer_block as get_fused_optimizer_block
from funpipe.interop.spmd.rewriting.records import APPLIED
from funpipe.interop.spmd.rewriting.split_optimizer import split_fused_optimizer as split_fused_optimizer
from funpipe.passes.base import Pass
from funpipe.passes.communication.sink_waits import sink_waits

_optimized_func = APPLIED

_COLLECTIVES = (CommType.ALLREDUCE.value, "all_reduce")


@graph_optimization_pass(prerequisites=[], apply_after=[])
def comm_fusion_with_concat(gm: Any, bucket_size_mb: float) -> None:
    """Makes a few large all-reduces of many small ones, each as soon as its last gradient is there.

    They are named `all_reduce_default`, `all_reduce_default_1`, … in the order in which they start. All-reduces of
    another axis, reduction, dtype or device have buckets of their own. The first bucket closes at 1 MiB.

    Args:
        gm: the graph module, which is changed.
        bucket_size_mb: a bucket closes once it has this many MiB; the tensor that crosses it is still in it.

    Raises:
        SpmdValueError: the size is no positive number.
    """
    if not isinstance(bucket_size_mb, int | float) or not 1 <= bucket_size_mb * (1 << 20) < float("inf"):
        raise SpmdValueError(
            f"bucket_size_mb={bucket_size_mb!r} leaves no room for any gradient; pass a positive number."
        )
    _rewrite(gm, fusion(int(bucket_size_mb * (1 << 20))))


@graph_optimization_pass(prerequisites=[comm_fusion_with_concat], apply_after=[])
def schedule_comm_wait(gm: Any) -> None:
    """Moves the wait of each all-reduce to right before the first node that needs it.

    Args:
        gm: the graph module, which is changed.

    Raises:
        SpmdAssertionError: nothing reads what an all-reduce gives.
    """
    for block in get_all_comm_blocks(gm, _COLLECTIVES):
        if not any(output.users for output in block.outputs):
            raise SpmdAssertionError(
                f"Found a allreduce that has zero outputs/users -- {block.comm_node}. Erase it, or read what it gives."
            )
    _rewrite(gm, sink_waits())


@graph_optimization_pass(prerequisites=[], apply_after=[])
def remove_copy_from_optimizer(gm: Any) -> None:
    """Erases copies of what an optimizer made that nothing reads.

    A step that this layer traces has none: what is new of its state is among its outputs.

    Args:
        gm: the graph module, which is changed.
    """
    made = {node for node in gm.graph.nodes if str(node.target).startswith(("aten._foreach_", "aten._fused_"))}
    below = set(find_all_descendants(gm, made)) if made else set()
    for node in reversed(gm.graph.find_nodes(op="call_function", target=torch.ops.aten.copy_.default)):
        if not node.users and node in below:
            gm.graph.erase_node(node)


@graph_optimization_pass(prerequisites=[remove_copy_from_optimizer], apply_after=[schedule_comm_wait])
def iter_move_grads_and_optimizers(gm: Any, target_comm_node: str, target_dest_node: str) -> None:
    """Has an all-reduce, and the update of the parameters whose gradients it brings, run in the next step.

    Args:
        gm: an `IterGraphModule`, which is changed.
        target_comm_node: the name of the all-reduce, such as `all_reduce_default_1`.
        target_dest_node: the name of a node of the forward, such as `relu`, before which they run.

    Raises:
        SpmdTypeError: `gm` runs each step by itself.
        SpmdValueError: there is no such all-reduce, no fused optimizer uses it, or a node before the destination reads
            one of these parameters; the text names it.
        SpmdIndexError: there is no node of the destination's name.
    """
    move_block(gm, target_comm_node, target_dest_node)


def _rewrite(gm: Any, rewriting: Pass) -> None:
    write_back(gm, rewriting(graph_of(gm)))
