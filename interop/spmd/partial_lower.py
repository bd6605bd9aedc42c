"""Stretches of a graph compiled, and the rest left as it is."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.profiler import record_function

from funpipe import TensorType
from funpipe.backends.compiled import silent
from funpipe.backends.emit import Graph
from funpipe.backends.inductor import Boxed
from funpipe.backends.link import link
from funpipe.interop.spmd.rewriting.stretches import Stretch, stretches

MIN_ATEN_OPS_TO_LOWER = 10
"""A shorter stretch is left as it is."""

logger = logging.getLogger(__name__)


def partial_lower(
    gm: fx.GraphModule,
    node_predicate: Callable[[fx.Node], bool] = lambda node: True,
    subgraph_predicate: Callable[[list[fx.Node]], bool] = lambda nodes: True,
    dumper: Callable[[str], str] = lambda graph: "subgraph",
) -> fx.GraphModule:
    """Has stretches of a graph compiled, each when it first runs.

    A stretch ends at a collective, at its wait, at a fused update of an optimizer, where random numbers are drawn, and
    at whatever takes or gives anything but tensors. It becomes a call of a module `subgraph_0`, `subgraph_1`, …

    Args:
        gm: is changed; its nodes have `meta["val"]`.
        node_predicate: whether a node may be compiled.
        subgraph_predicate: whether a stretch, given as its nodes, is.
        dumper: is given the text of each stretch; what it returns names the stretch in profiles.

    Returns:
        `gm`.
    """
    found = [s for s in stretches(gm.graph, node_predicate) if _is_long(s.nodes) and subgraph_predicate(list(s.nodes))]
    for number, stretch in enumerate(found):
        tag = dumper(str(stretch.module().graph))
        gm.add_submodule(f"subgraph_{number}", CompiledStretch(f"subgraph_{number}", stretch))
        stretch.replace_by(f"subgraph_{number}", tag)
        logger.info("Stretch %d (%s) has %d operators", number, tag, len(stretch.nodes))
    gm.graph.lint()
    gm.recompile()
    return gm


def _is_long(nodes: Sequence[fx.Node]) -> bool:
    return sum(str(node.target).startswith("aten.") for node in nodes) >= MIN_ATEN_OPS_TO_LOWER


class CompiledStretch(nn.Module):
    """A stretch of a graph, compiled when it is first called.

    Args:
        name: for messages.
        stretch: of the graph.
    """

    def __init__(self, name: str, stretch: Stretch) -> None:
        super().__init__()
        self.name = name
        self._graph = Graph(stretch.module(), tuple(TensorType.of(node.meta["val"]) for node in stretch.inputs))
        self._function: Boxed | None = None

    def forward(self, *args: Tensor, tag: str) -> Any:
        """Runs it.

        Args:
            *args: what it reads of the graph.
            tag: its name in profiles.

        Raises:
            CompileError: torch cannot compile it.
        """
        if self._function is None:
            self._function = link({self.name: self._graph}, silent).functions[self.name]
        with record_function(tag), torch.no_grad():
            return self._function([_like(x, kind) for x, kind in zip(args, self._graph.types, strict=True)])


def _like(x: Tensor, kind: TensorType) -> Tensor:
    """An argument with the strides that the code was made for."""
    if x.stride() == kind.stride:
        return x
    return torch.empty_strided(kind.shape, kind.stride, dtype=x.dtype, device=x.device).copy_(x)
