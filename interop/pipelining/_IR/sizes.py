"""Sizes that differ from call to call, such as a batch's, and stages that need one without having made it.

A capture reads each size once, where it first can, and uses the number everywhere. Stages send each other tensors and
no numbers, so a stage reads the size again from one of the tensors that it has anyway. Where none has that size, the
stage that read it sends a tensor that does: one byte for each element, and nobody looks at them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from funpipe.interop.pipelining.errors import PipeValueError

_SIZE = torch.ops.aten.sym_size.int


def is_size(node: fx.Node) -> bool:
    """Whether a node is a size, or a number or a condition made of sizes."""
    return isinstance(node.meta.get("val"), torch.SymInt | torch.SymFloat | torch.SymBool)


def read_sizes_again(graph: fx.Graph, stages: dict[fx.Node, int]) -> None:
    """Has each stage read the sizes that it needs from its own tensors; sizes that nobody needs go.

    Args:
        graph: a captured model without marks, changed in place.
        stages: of its nodes; sizes are on the stage of what they are read from. Changed with the graph.

    Raises:
        PipeValueError: a stage needs a number that an earlier one takes out of a tensor with `.item()`.
    """
    readers, last = _Readers(graph, stages, {}), max(stages.values(), default=0)
    for node in [node for node in graph.nodes if not is_size(node)]:
        stage = last if node.op == "output" else stages.get(node)
        for size in [read for read in node.all_input_nodes if is_size(read) and stages[read] != stage]:
            if stage is not None:
                node.replace_input_with(size, readers.here(size, stage, node))
    for node in reversed(graph.nodes):
        if is_size(node) and not node.users:
            graph.erase_node(node)
            stages.pop(node, None)


@dataclass(frozen=True)
class _Readers:
    """The nodes that read sizes again, by the size and the stage."""

    graph: fx.Graph
    stages: dict[fx.Node, int]
    found: dict[tuple[fx.Node, int], fx.Node]

    def here(self, size: fx.Node, stage: int, before: fx.Node) -> fx.Node:
        """A size on another stage, for a node there."""
        if (size, stage) not in self.found:
            self.found[size, stage] = again = self._again(size, stage, before)
            again.meta, self.stages[again] = dict(size.meta), stage
        return self.found[size, stage]

    def _again(self, size: fx.Node, stage: int, before: fx.Node) -> fx.Node:
        """Of a tensor there, computed from such sizes, or of a tensor that is sent for it."""
        tensor, dim = _with_size(size, _tensors_of(self.graph, self.stages, stage, before))
        if tensor is None and all(map(is_size, size.all_input_nodes)):
            inputs = {read: self.here(read, stage, before) for read in size.all_input_nodes}
            with self.graph.inserting_before(before):
                return self.graph.node_copy(size, lambda read: inputs[read])
        tensor = tensor or _tensor_of(self.graph, self.stages, size, stage)
        with self.graph.inserting_before(before):
            return self.graph.call_function(_SIZE, (tensor, dim))


def _tensors_of(graph: fx.Graph, stages: dict[fx.Node, int], stage: int, before: fx.Node) -> Iterable[fx.Node]:
    """What a stage has when a node of it runs: what it reads of others and of the caller, then what it has made."""
    mine = [node for node in graph.nodes if not is_size(node) and (stages.get(node) == stage or node is before)]
    read = [tensor for node in mine for tensor in node.all_input_nodes if stages.get(tensor) != stage]
    return dict.fromkeys([*read, *mine[: mine.index(before)]])


def _with_size(size: fx.Node, tensors: Iterable[fx.Node]) -> tuple[fx.Node | None, int]:
    """A tensor that has a size, and in which dimension; None if none has it."""
    wanted = str(size.meta["val"])
    for tensor in tensors:
        value: Any = tensor.meta.get("val")
        for dim, length in enumerate(value.shape if isinstance(value, torch.Tensor) else ()):
            if isinstance(length, torch.SymInt) and str(length) == wanted:
                return tensor, dim
    return None, 0


def _tensor_of(graph: fx.Graph, stages: dict[fx.Node, int], size: fx.Node, stage: int) -> fx.Node:
    """A tensor of a size, made where the size is read."""
    if size.target is not _SIZE:
        raise PipeValueError(
            f"stage {stage} needs a number that stage {stages[size]} takes out of a tensor ({size.format_node()}), and "
            "stages send each other tensors; leave out the .item(), or end the stage elsewhere."
        )
    device = size.all_input_nodes[0].meta["val"].device
    with graph.inserting_after(size):
        tensor = graph.call_function(torch.ops.aten.zeros.default, ([size],), {"dtype": torch.uint8, "device": device})
    stages[tensor] = stages[size]
    return tensor
