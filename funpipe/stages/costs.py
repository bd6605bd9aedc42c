"""What a node costs: the larger of the time of its arithmetic and the time of its memory traffic (the roofline)."""

import operator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, fx
from torch.utils.flop_counter import flop_registry

from funpipe._typing import TensorType
from funpipe.tracing.operators import is_view

aten = torch.ops.aten

SAME_COUNT = {aten._scaled_dot_product_flash_attention_for_cpu: aten._scaled_dot_product_flash_attention}
"""Operators that torch does not count, with one of the same arithmetic that it does."""


class Costs(Protocol):
    """Times of the nodes of a graph and of the values that cross a cut."""

    def node(self, node: fx.Node) -> float:
        """The time of one node, in seconds."""
        ...

    def transfer(self, nbytes: int) -> float:
        """The time to move bytes between two ranks, in seconds."""
        ...


@dataclass(frozen=True)
class Roofline:
    """Analytic costs of a device with fixed peaks.

    Args:
        flops: floating-point operations per second.
        bandwidth: bytes per second between the processor and its memory.
        link: bytes per second between two ranks.
    """

    flops: float = 1e11
    bandwidth: float = 1e10
    link: float = 5e9

    def node(self, node: fx.Node) -> float:
        """The larger of the node's arithmetic time and memory time; a view, or one of several results, is free."""
        if not computes(node):
            return 0.0
        return max(flops_of(node) / self.flops, bytes_of(node) / self.bandwidth)

    def transfer(self, nbytes: int) -> float:
        """Bytes over the link's bandwidth."""
        return nbytes / self.link


def computes(node: fx.Node) -> bool:
    """Whether a node calls an operator that computes something: it is no leaf, no view, and no part of results."""
    return node.op == "call_function" and node.target is not operator.getitem and not is_view(node)


def flops_of(node: fx.Node) -> int:
    """The floating-point operations of one node: counted for products, one an element for the rest."""
    count = _count_of(node)
    if count is None:
        return sum(t.numel for t in types_of(node))
    args, kwargs = fx.map_arg((node.args, dict(node.kwargs)), lambda n: n.meta["val"])
    return int(count(*args, **kwargs, out_val=node.meta["val"]))


def is_product(node: fx.Node) -> bool:
    """Whether a node multiplies matrices, or does as much work: those whose operations torch counts."""
    return _count_of(node) is not None


def _count_of(node: fx.Node) -> Any:
    packet: Any = getattr(node.target, "overloadpacket", None)
    return flop_registry.get(SAME_COUNT.get(packet, packet))


def bytes_of(node: fx.Node) -> int:
    """The bytes that a node reads and writes."""
    read = sum(t.nbytes for source in node.all_input_nodes for t in types_of(source))
    return read + sum(t.nbytes for t in types_of(node))


def types_of(node: fx.Node) -> list[TensorType]:
    """The types of a node's tensors: one, or several for a node with several outputs."""
    return [TensorType.of(t) for t in _tensors(node.meta.get("val"))]


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [t for item in value for t in _tensors(item)] if isinstance(value, tuple | list) else []
