"""Regions as a compiled step calls them: what is only accumulated is added in place, inside.

A region of a `Program` returns single gradients. Compiled, a backward takes its accumulators too and adds to them, so
that no separate kernel does, and no gradient is kept longer than it takes to add it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import fx

from funpipe._typing import TensorType
from funpipe.stages.stage import Region
from funpipe.tracing.fake import contiguous

aten = torch.ops.aten


@dataclass(frozen=True, eq=False)
class Kernel:
    """A callable form of a region.

    Args:
        module: flat tensors in, a tuple of tensors out; writes to its accumulators.
        inputs: names of the inputs, as the region's, and the accumulators behind.
        outputs: names of the outputs.
        types: of the inputs, in order.
    """

    module: fx.GraphModule
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    types: tuple[TensorType, ...]


def kernel(
    region: Region,
    pairs: Sequence[tuple[str, str]],
    wanted: frozenset[str],
    types: Mapping[str, TensorType] | None = None,
) -> Kernel:
    """Rewrites a region for a compiled step.

    Args:
        region: the region.
        pairs: accumulators with the value that is added to each; of the same shape, laid out in rows.
        wanted: the outputs that something other than an accumulator reads.
        types: of the accumulators, by name; None: those of the values.

    Returns:
        The kernel; values that only accumulators read are no outputs of it.
    """
    graph, copies = fx.Graph(), {}
    added = _added(region, pairs)
    dtypes = {name: (types[name] if types else region.types[value]).dtype for name, value in pairs}
    nodes = list(region.module.graph.nodes)
    for node in (n for n in nodes if n.op == "placeholder"):
        copies[node] = graph.node_copy(node)
    accumulators = {name: graph.placeholder(f"acc{i}") for i, (name, _) in enumerate(pairs)}
    for node in nodes:
        if node.op == "call_function":
            copies[node] = graph.node_copy(node, copies.__getitem__)
        for name in added.get(node, ()):
            _add(graph, accumulators[name], copies[node], dtypes[name])
    values = dict(zip(region.outputs, nodes[-1].args[0], strict=True))
    outputs = tuple(n for n in region.outputs if n in wanted)
    graph.output(tuple(copies[values[n]] for n in outputs))
    graph.eliminate_dead_code()
    kinds = [replace(contiguous(region.types[value]), dtype=dtypes[name]) for name, value in pairs]
    inputs = (*region.inputs, *accumulators)
    return Kernel(fx.GraphModule({}, graph), inputs, outputs, (*(region.types[n] for n in region.inputs), *kinds))


def _added(region: Region, pairs: Sequence[tuple[str, str]]) -> dict[fx.Node, list[str]]:
    """For each node the accumulators that take its value."""
    (returned,) = region.module.graph.find_nodes(op="output")[0].args
    values = dict(zip(region.outputs, returned, strict=True))
    found: dict[fx.Node, list[str]] = {}
    for accumulator, value in pairs:
        found.setdefault(values[value], []).append(accumulator)
    return found


def _add(graph: fx.Graph, accumulator: fx.Node, value: fx.Node, dtype: torch.dtype) -> None:
    """Adds in place, as soon as the value is there."""
    accumulator.meta["val"] = value.meta["val"].contiguous().to(dtype)
    graph.call_function(aten.add_.Tensor, (accumulator, value)).meta["val"] = accumulator.meta["val"]
