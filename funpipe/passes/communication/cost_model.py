"""What a node and a collective cost, in seconds: passes that weigh one against the other are given it."""

import operator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.utils.flop_counter import flop_registry

from funpipe._errors import PassError
from funpipe._typing import TensorType
from funpipe.graphs import Graph, Node, map_refs
from funpipe.graphs.communication import is_communication
from funpipe.graphs.effects import is_view
from funpipe.graphs.node import Type
from funpipe.stages.costs import SAME_COUNT


class StepCosts(Protocol):
    """Times of what a step consists of."""

    def node(self, graph: Graph, node: Node) -> float:
        """The time of one node that does not communicate, in seconds."""
        ...

    def collective(self, nbytes: int, axis: str) -> float:
        """The time of a collective from its start to its end, in seconds; bytes are those of one rank."""
        ...


@dataclass(frozen=True)
class RooflineStep:
    """Analytic costs of a device with fixed peaks, and of links with a latency and a bandwidth.

    Args:
        flops: floating-point operations per second.
        bandwidth: bytes per second between the processor and its memory.
        link: bytes per second of a collective, in bytes of one rank.
        latency: seconds that a collective of no bytes takes.
        overhead: seconds that a call of any operator takes.

    Example:
        >>> RooflineStep(link=1e9, latency=1e-4).collective(1_000_000, "dp")
        0.0011
    """

    flops: float = 1e11
    bandwidth: float = 1e10
    link: float = 2e9
    latency: float = 1e-4
    overhead: float = 2e-6

    def node(self, graph: Graph, node: Node) -> float:
        """The larger of arithmetic and memory time; a view, or one of several results, is free."""
        if node.target is operator.getitem or is_communication(node) or is_view(graph, node):
            return 0.0
        traffic = sum(nbytes(graph.type_of(name)) for name in node.reads) + nbytes(node.type)
        return self.overhead + max(flops_of(graph, node) / self.flops, traffic / self.bandwidth)

    def collective(self, nbytes: int, axis: str) -> float:
        """The latency, and bytes over the link's bandwidth; axes do not differ."""
        return self.latency + nbytes / self.link


def costs_or_default(costs: StepCosts | None) -> StepCosts:
    """The costs that were passed, or `RooflineStep()`.

    Args:
        costs: as the user passed them.

    Raises:
        PassError: they are no costs.
    """
    if costs is None:
        return RooflineStep()
    if not all(callable(getattr(costs, name, None)) for name in ("node", "collective")):
        raise PassError(
            f"costs={costs!r} are none: pass passes.RooflineStep(link=..., latency=...), or an object with "
            "node(graph, node) and collective(nbytes, axis), both in seconds."
        )
    return costs


def nbytes(kind: Type) -> int:
    """The bytes of a value of a type, of all results if there are several.

    Args:
        kind: of the value.
    """
    if isinstance(kind, TensorType):
        return kind.nbytes
    return sum(map(nbytes, kind)) if isinstance(kind, tuple) else 0


def collective_bytes(graph: Graph, start: Node) -> int:
    """The bytes of one rank that a collective moves: the larger of what it takes and what it gives.

    Args:
        graph: the graph.
        start: one of its starts.
    """
    return max(sum(nbytes(graph.type_of(name)) for name in start.reads), nbytes(start.type))


def flops_of(graph: Graph, node: Node) -> int:
    """The floating-point operations of one node: counted for products, one an element for the rest.

    Args:
        graph: the graph.
        node: one of its nodes.
    """
    packet: Any = getattr(node.target, "overloadpacket", None)
    count = flop_registry.get(SAME_COUNT.get(packet, packet))
    if count is None:
        return _elements(node.type)
    args = map_refs(lambda ref: _stand_in(graph.type_of(ref.name)), node.args)
    kwargs = map_refs(lambda ref: _stand_in(graph.type_of(ref.name)), node.kwargs)
    return int(count(*args, **kwargs, out_val=_stand_in(node.type)))


def _elements(kind: Type) -> int:
    if isinstance(kind, TensorType):
        return kind.numel
    return sum(map(_elements, kind)) if isinstance(kind, tuple) else 0


def _stand_in(kind: Type) -> Any:
    """A value of a type, without memory."""
    if isinstance(kind, TensorType):
        return torch.empty_strided(kind.shape, kind.stride, dtype=kind.dtype, device="meta")
    return tuple(map(_stand_in, kind)) if isinstance(kind, tuple) else None
