"""Removes gathers of which a rank keeps nothing but the rows that it gave."""

import operator
from typing import Any

import torch
from torch import fx

from funpipe.functional.communication import OPERATORS, WAIT

_SPLIT, _SLICE, _CAT = torch.ops.aten.split.Tensor, torch.ops.aten.slice.Tensor, torch.ops.aten.cat.default


def without_own_gathers(module: fx.GraphModule, rank: int) -> fx.GraphModule:
    """Reads a rank's own rows from before the gather; a gather that nothing else reads goes, on all ranks alike.

    Args:
        module: changed in place.
        rank: of this process.

    Returns:
        The same module.
    """
    for node in module.graph.find_nodes(op="call_function", target=_SPLIT):
        given = _given(node.args[0])
        own = next((user for user in node.users if user.target is operator.getitem and user.args[1] == rank), None)
        if given is not None and own is not None and given.meta["val"].shape[0] == node.args[1]:
            own.replace_all_uses_with(given)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _given(gathered: Any) -> fx.Node | None:
    """What this rank gave to the gather that a value came from, padding and its removal aside."""
    node = gathered.args[0][0] if gathered.target is _CAT else gathered
    node = node.args[0] if node.target is _SLICE else node
    if node.target is not WAIT or node.args[0].target is not OPERATORS.all_gather.default:
        return None
    return node.args[0].args[0]
