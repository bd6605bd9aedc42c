"""What each stage of a partition takes: the time of its regions, what it sends, what it holds."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import fx

from funpipe._typing import TensorType
from funpipe.stages.costs import Costs, Roofline
from funpipe.stages.partition import crossing
from funpipe.stages.saved import returned, saved_bytes
from funpipe.stages.sources import ancestors
from funpipe.stages.stage import Region, Stage


@dataclass(frozen=True)
class StageCosts:
    """The costs of a partition: for each stage one entry, for one microbatch.

    Args:
        F: the time of the forward, in seconds.
        B: the time of the whole backward.
        I: the time of the gradient of what the stage receives.
        W: the time of the gradients of its parameters.
        edges: the bytes that go from one stage to another, by the pair of stages; gradients go to the lower one.
        saved: the bytes held from the forward to the backward (`saved_bytes`).
        owned: the bytes of the trained parameters that live on the stage; a tied leaf lives where it is used first.
        held: the bytes of all leaves that the stage reads or owns: also copies of tied leaves, frozen ones, buffers.

    Example:
        >>> edges = {(0, 1): 8, (1, 0): 8}
        >>> costs = StageCosts((1.0, 1.0), (2.0, 1.5), (1.0, 1.0), (1.0, 0.5), edges, (4, 4), (2, 2), (2, 2))
        >>> costs.forward_bytes, costs.backward_bytes
        ((8,), (8,))
    """

    F: tuple[float, ...]
    B: tuple[float, ...]
    I: tuple[float, ...]
    W: tuple[float, ...]
    edges: dict[tuple[int, int], int]
    saved: tuple[int, ...]
    owned: tuple[int, ...]
    held: tuple[int, ...]

    @property
    def forward_bytes(self) -> tuple[int, ...]:
        """For each boundary the bytes that the stage after it receives from earlier stages, in a forward."""
        return tuple(self.received(s, forward=True) for s in range(1, len(self.F)))

    @property
    def backward_bytes(self) -> tuple[int, ...]:
        """For each boundary the bytes that the stage before it receives from later stages, in a backward."""
        return tuple(self.received(s, forward=False) for s in range(len(self.F) - 1))

    def received(self, stage: int, forward: bool | None = None) -> int:
        """The bytes that come to a stage from earlier ones, from later ones, or (None) from both.

        Args:
            stage: its index.
            forward: True: from earlier stages; False: from later ones.
        """
        come = {src: n for (src, dst), n in self.edges.items() if dst == stage}
        return sum(n for src, n in come.items() if forward is None or (src < stage) == forward)

    def as_text(self) -> str:
        """A table, one line a stage: milliseconds and mebibytes."""
        head = ("stage", "F ms", "B ms", "I ms", "W ms", "in MiB", "saved MiB", "owned MiB", "held MiB")
        times = zip(*([f"{1e3 * t:.3f}" for t in ts] for ts in (self.F, self.B, self.I, self.W)), strict=True)
        received = tuple(self.received(s) for s in range(len(self.F)))
        sizes = zip(*([f"{n / 2**20:.2f}" for n in ns] for ns in (received, *self._bytes())), strict=True)
        rows = [head, *((str(s), *t, *b) for s, (t, b) in enumerate(zip(times, sizes, strict=True)))]
        return "\n".join("".join(cell.rjust(11 if i else 5) for i, cell in enumerate(row)) for row in rows)

    def _bytes(self) -> tuple[tuple[int, ...], ...]:
        return self.saved, self.owned, self.held


def stage_costs(stages: Sequence[Stage], costs: Costs | None = None) -> StageCosts:
    """The costs of a partition, from those of its nodes.

    What a region computes counts once for each region: constants and rematerialised values wherever they are computed.
    Where a backward is not split into regions of its own, its nodes are told apart by reachability: those that the
    gradients sent to other stages need are I, all others W.

    Args:
        stages: as `partition` or `rematerialise` gives them.
        costs: the time of a node; `Roofline()` by default.

    Returns:
        The costs.

    Example:
        >>> import torch, funpipe as fp
        >>> loss = lambda p, x: (x @ p["a"] @ p["b"]).sum()
        >>> traced = fp.trace(loss, {"a": torch.ones(3, 3), "b": torch.ones(3, 2)}, torch.ones(4, 3))
        >>> found = fp.stages.stage_costs(fp.stages.partition(traced, (1,)))
        >>> found.edges, found.saved, found.owned
        ({(0, 1): 48, (1, 0): 48}, (0, 48), (36, 24))
    """
    priced = Roofline() if costs is None else costs
    sent = crossing(tuple(stages))
    backward = [_backward(stage, priced, set(sent)) for stage in stages]
    types = _trained(stages)
    return StageCosts(
        F=tuple(_time(_operations(stage.F), priced) for stage in stages),
        B=tuple(_time(_operations(stage.B), priced) for stage in stages),
        I=tuple(i for i, _ in backward),
        W=tuple(w for _, w in backward),
        edges=edge_bytes(stages),
        saved=tuple(map(saved_bytes, stages)),
        owned=tuple(sum(types[n].nbytes for n in s.owned) for s in stages),
        held=tuple(sum(t.nbytes for t in _leaves(s).values()) for s in stages),
    )


def edge_bytes(stages: Sequence[Stage]) -> dict[tuple[int, int], int]:
    """The bytes that one microbatch sends from each stage to each other, by the pair of stages.

    Args:
        stages: a partition.
    """
    types = {name: r.types[name] for s in stages for r in s.regions for name in r.outputs}
    edges: dict[tuple[int, int], int] = {}
    for value, (maker, readers) in crossing(tuple(stages)).items():
        for reader in readers:
            edges[maker, reader] = edges.get((maker, reader), 0) + types[value].nbytes
    return dict(sorted(edges.items()))


def _backward(stage: Stage, costs: Costs, sent: set[str]) -> tuple[float, float]:
    """The times of I and W."""
    if stage.B is None:
        return 0.0, 0.0
    if stage.I is not None or stage.W is not None:
        return _time(_operations(stage.I), costs), _time(_operations(stage.W), costs)
    outputs = [node for name, node in returned(stage.B).items() if name in sent]
    first = ancestors(outputs)
    operations = _operations(stage.B)
    return _time([n for n in operations if n in first], costs), _time([n for n in operations if n not in first], costs)


def _operations(region: Region | None) -> list[fx.Node]:
    return [] if region is None else [n for n in region.module.graph.nodes if n.op == "call_function"]


def _time(nodes: Sequence[fx.Node], costs: Costs) -> float:
    return float(sum(map(costs.node, nodes)))


def _trained(stages: Sequence[Stage]) -> dict[str, TensorType]:
    """The types of the trained leaves: those of their gradients."""
    return {leaf: s.B.types[value] for s in stages if s.B for leaf, places in s.terms.items() for _, value in places}


def _leaves(stage: Stage) -> dict[str, TensorType]:
    """The types of the leaves that a stage's regions read; batch leaves and constants are no part of the state."""
    kinds = ("param.", "buffer.")
    return {n: r.types[n] for r in stage.regions for n in r.inputs if n.startswith(kinds)}
