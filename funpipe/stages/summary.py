"""What a partition is, in figures: each stage, and each value that crosses a cut."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

from torch import fx

from funpipe._typing import TensorType
from funpipe.stages.costs import computes, flops_of
from funpipe.stages.partition import crossing
from funpipe.stages.saved import saved_bytes
from funpipe.stages.stage import Region, Stage
from funpipe.tracing.traced import Traced


@dataclass(frozen=True)
class StageSummary:
    """A stage in figures, for one microbatch.

    Args:
        index: its position.
        modules: the dotted paths of the modules that run in it: the outermost that run in no other stage, and those
            that run here in part.
        leaves: how many parameters live on it; a tied one where it is used first.
        numbers: their elements.
        nbytes: their bytes.
        forward, backward: floating-point operations.
        saved: the bytes held from the forward to the backward.
    """

    index: int
    modules: tuple[str, ...]
    leaves: int
    numbers: int
    nbytes: int
    forward: int
    backward: int
    saved: int


@dataclass(frozen=True)
class Crossing:
    """A value that one stage makes and another reads.

    Args:
        value: its name in the graph.
        maker: the stage that makes it.
        readers: the stages that read it.
        type: its type, of one microbatch.
        gradient: whether it is a gradient, which flows to earlier stages.
        module: the dotted path of the module that makes it; None outside of any.
        source: the user's line, as `"file:line"`; None if unknown.
    """

    value: str
    maker: int
    readers: tuple[int, ...]
    type: TensorType
    gradient: bool
    module: str | None = None
    source: str | None = None

    @property
    def nbytes(self) -> int:
        """The bytes that go to all readers together."""
        return self.type.nbytes * len(self.readers)

    @property
    def skips(self) -> int:
        """How many stages lie between the maker and its farthest reader."""
        return max(abs(reader - self.maker) for reader in self.readers) - 1


def summaries(traced: Traced, stages: Iterable[Stage]) -> tuple[StageSummary, ...]:
    """The stages of a partition in figures.

    Args:
        traced: that was cut.
        stages: the partition.

    Example:
        >>> import torch, funpipe as fp
        >>> loss = lambda p, x: (x @ p["a"] @ p["b"]).sum()
        >>> traced = fp.trace(loss, {"a": torch.ones(3, 3), "b": torch.ones(3, 2)}, torch.ones(4, 3))
        >>> [(s.numbers, s.forward) for s in summaries(traced, fp.stages.partition(traced, (1,)))]
        [(9, 72), (6, 49)]
    """
    home: dict[str, int] = {}
    stages = tuple(stages)
    whole = _whole(stages)
    for stage in stages:
        for name in stage.params:
            home.setdefault(name, stage.index)
    return tuple(_summary(traced, s, [n for n in s.params if home[n] == s.index], whole) for s in stages)


def _summary(traced: Traced, stage: Stage, owned: list[str], whole: set[str]) -> StageSummary:
    types = [traced.params[name] for name in owned]
    return StageSummary(
        index=stage.index,
        modules=tuple(dict.fromkeys(_outermost(path, whole) for path in _paths(stage))),
        leaves=len(owned),
        numbers=sum(t.numel for t in types),
        nbytes=sum(t.nbytes for t in types),
        forward=_flops(stage.F),
        backward=_flops(stage.B),
        saved=saved_bytes(stage),
    )


def _operations(region: Region | None) -> list[fx.Node]:
    return [] if region is None else [n for n in region.module.graph.nodes if n.op == "call_function"]


def _flops(region: Region | None) -> int:
    """The operations of a region; views are free."""
    return sum(flops_of(n) for n in _operations(region) if computes(n))


def _paths(stage: Stage) -> list[str]:
    """The modules that a stage's operators ran in; the model itself contains all, and is left out."""
    paths = (n.meta.get("path") for n in _operations(stage.F) if computes(n))
    return list(dict.fromkeys(path for path in paths if path))


def _around(path: str) -> list[str]:
    """The paths of the modules that contain one, the outermost first, and its own."""
    return list(accumulate(path.split("."), "{}.{}".format))


def _whole(stages: Iterable[Stage]) -> set[str]:
    """The modules all of whose operators are in one stage."""
    homes: dict[str, set[int]] = {}
    for stage in stages:
        for path in _paths(stage):
            for outer in _around(path):
                homes.setdefault(outer, set()).add(stage.index)
    return {path for path, found in homes.items() if len(found) == 1}


def _outermost(path: str, whole: set[str]) -> str:
    """The outermost module around a path that lies in one stage; the path itself if none does."""
    return next((outer for outer in _around(path) if outer in whole), path)


def crossings(traced: Traced, stages: Iterable[Stage]) -> tuple[Crossing, ...]:
    """The values that cross the cuts of a partition, forward ones first.

    Args:
        traced: that was cut.
        stages: the partition.

    Example:
        >>> import torch, funpipe as fp
        >>> loss = lambda p, x: (x @ p["a"] @ p["b"]).sum()
        >>> traced = fp.trace(loss, {"a": torch.ones(3, 3), "b": torch.ones(3, 2)}, torch.ones(4, 3))
        >>> [(c.value, c.nbytes, c.gradient) for c in crossings(traced, fp.stages.partition(traced, (1,)))]
        [('mm', 48, False), ('mm_3', 48, True)]
    """
    stages = tuple(stages)
    types = {name: r.types[name] for s in stages for r in s.regions for name in r.outputs}
    nodes = {node.name: node for node in traced.graph.nodes}
    backward = {node.name for node in traced.backward}
    found = []
    for value, (maker, readers) in crossing(stages).items():
        meta = nodes[value].meta if value in nodes else {}
        where = meta.get("path"), meta.get("source")
        found.append(Crossing(value, maker, readers, types[value], value in backward, *where))
    return tuple(sorted(found, key=lambda c: c.gradient))
