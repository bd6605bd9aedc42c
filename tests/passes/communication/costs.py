"""Costs that a test can follow by hand."""

from dataclasses import dataclass

import torch

from funpipe.graphs import Graph, Node


@dataclass(frozen=True)
class Unit:
    """Every product takes a second, everything else no time, every transfer so many seconds."""

    transfer: float

    def node(self, graph: Graph, node: Node) -> float:
        """One second for a product."""
        return float(node.target is torch.ops.aten.mm.default)

    def collective(self, nbytes: int, axis: str) -> float:
        """The same for all."""
        return self.transfer


@dataclass(frozen=True)
class Drawn:
    """Every node and every byte takes a time that depends on its name or size alone."""

    def node(self, graph: Graph, node: Node) -> float:
        """Between 0 and 6 seconds."""
        return float(sum(map(ord, node.name)) % 7)

    def collective(self, nbytes: int, axis: str) -> float:
        """A second, and more for more bytes."""
        return 1.0 + nbytes / 16
