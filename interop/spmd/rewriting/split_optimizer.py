"""One fused update as two."""

import operator
from collections.abc import Collection, Sequence
from typing import Any

from torch import fx

from funpipe.graphs import Graph
from funpipe.interop.spmd.errors import SpmdNotImplementedError, SpmdValueError
from funpipe.interop.spmd.rewriting.convert import graph_of, write_back
from funpipe.interop.spmd.rewriting.optimizer_block import (
    FusedOptimizerBlock,
    get_fused_optimizer_block,
    gradients_of,
    is_fused,
)
from funpipe.passes.optimizer.calls import UpdateCall, read_update
from funpipe.passes.optimizer.lists import split_lists


def split_fused_optimizer(
    gm: Any, optim_block: FusedOptimizerBlock, split_gradients: Collection[fx.Node]
) -> tuple[FusedOptimizerBlock, FusedOptimizerBlock]:
    """Makes one fused update, and the addition that counts its steps, two.

    Args:
        gm: the graph module, which is changed.
        optim_block: the update.
        split_gradients: the gradients of the first of the two.

    Returns:
        The update of these, and the update of the others. Values that others read are what they were.

    Raises:
        SpmdValueError: no gradients are given, or one that the update does not take, or all that it takes.
        SpmdNotImplementedError: the block is of no fused update.

    Source: torch.distributed._spmd, whose function takes `_fused_adam` alone.
    """
    node = optim_block.optim.optim_node
    _check(node, split_gradients)
    gradients = gradients_of(node)
    chosen = [i for i, gradient in enumerate(gradients) if gradient in split_gradients]
    others = [i for i in range(len(gradients)) if i not in chosen]
    write_back(gm, split_graph(graph_of(gm), node.name, [chosen, others]))
    return _block_of(gm, gradients[chosen[0]]), _block_of(gm, gradients[others[0]])


def _check(node: fx.Node, split_gradients: Collection[fx.Node]) -> None:
    if not split_gradients:
        raise SpmdValueError("The given split_gradients is empty. Pass gradients that the update takes.")
    if not is_fused(node):
        raise SpmdNotImplementedError(
            f"Only fused_adam is supported now, with fused_adamw and fused_sgd, and {node.name!r} is none of them: use "
            "fused=True in the optimizer."
        )
    gradients = gradients_of(node)
    unknown = [gradient.name for gradient in split_gradients if gradient not in gradients]
    if unknown:
        known = ", ".join(gradient.name for gradient in gradients)
        raise SpmdValueError(f"{node.name!r} takes no gradient {unknown[0]!r}; take some of {known}.")
    if len(set(gradients)) == len(set(split_gradients)):
        raise SpmdValueError(
            f"At least one split optimizer does not have input. All gradients of {node.name!r} are given: leave one "
            "out."
        )


def split_graph(graph: Graph, name: str, parts: Sequence[Sequence[int]]) -> Graph:
    """Several fused updates in place of one, each with an addition of its own that counts its steps.

    Args:
        graph: the graph.
        name: of the update.
        parts: the leaves of each, by index.
    """
    call = read_update(graph, graph.node(name))
    counted = _counted(graph, call)
    graph = split_lists(graph, name, parts)
    for adder, items in counted.items():
        graph = split_lists(graph, adder, _adder_parts(graph, adder, items, parts))
    return graph


def _counted(graph: Graph, call: UpdateCall) -> dict[str, dict[int, int]]:
    """The additions that count an update's steps: for each leaf that one counts, which of its results that is."""
    found: dict[str, dict[int, int]] = {}
    for leaf, step in enumerate(call.steps):
        node = graph.by_name.get(step)
        adder = graph.by_name.get(node.reads[0]) if node is not None and node.target is operator.getitem else None
        if adder is not None and str(adder.target).startswith("aten._foreach_add"):
            found.setdefault(adder.name, {})[leaf] = node.args[1]  # type: ignore[union-attr]
    return found


def _adder_parts(graph: Graph, adder: str, items: dict[int, int], parts: Sequence[Sequence[int]]) -> list[list[int]]:
    """The results of an addition that each part needs; those that none needs stay with the last."""
    chosen = [sorted({items[leaf] for leaf in part if leaf in items}) for part in parts[:-1]]
    taken = {item for part in chosen for item in part}
    count = len(graph.node(adder).args[0])
    return [*chosen, [item for item in range(count) if item not in taken]]


def _block_of(gm: Any, gradient: fx.Node) -> FusedOptimizerBlock:
    node = next(node for node in gradient.users if is_fused(node) and gradient in gradients_of(node))
    return get_fused_optimizer_block(node)
