"""A forward that returns other values: what its backward is to get from it."""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import fx

from funpipe._typing import TensorType
from funpipe.stages.saved import returned
from funpipe.stages.stage import Region
from funpipe.tracing.operators import base_of, is_view

aten = torch.ops.aten


def save(F: Region, saved: dict[str, fx.Node], others: frozenset[str]) -> Region:
    """Rewrites a forward; what nothing reads any more is not computed.

    Args:
        F: the forward.
        saved: nodes to return for the backward, by the names of their values.
        others: values that something else reads.

    Returns:
        The forward. Its inputs are those from before, for they bring the backward what it computes again from.
    """
    old = {name: node for name, node in returned(F).items() if name in others or name in saved}
    new = {name: node for name, node in saved.items() if name not in old}
    wanted = _needed([*old.values(), *new.values()])
    graph, copies = fx.Graph(), {}
    for node in F.module.graph.nodes:
        if node.op == "placeholder" or node in wanted:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    bases = set(new.values())
    outputs = {name: _unshared(graph, node, copies[node], bases) for name, node in (old | new).items()}
    graph.output(tuple(outputs.values()))
    types = {n: F.types[n] for n in F.inputs} | {n: TensorType.of(node.meta["val"]) for n, node in outputs.items()}
    return replace(F, module=fx.GraphModule({}, graph), outputs=tuple(outputs), types=types)


def _needed(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """The nodes and everything they are computed from."""
    found = set(nodes)
    waiting = list(found)
    while waiting:
        new = [n for n in waiting.pop().all_input_nodes if n not in found]
        found.update(new)
        waiting += new
    return found


def _unshared(graph: fx.Graph, node: fx.Node, copy: fx.Node, bases: set[fx.Node]) -> fx.Node:
    """What is returned for a node: a clone where it is a view of a base that is returned now too."""
    if not (is_view(node) and base_of(node) in bases):
        return copy
    clone = graph.call_function(aten.clone.default, (copy,), {"memory_format": torch.contiguous_format})
    clone.meta["val"] = node.meta["val"].contiguous()
    return clone
