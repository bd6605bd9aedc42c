"""Stages that another process runs: all that programs need to know of them, in a form that can be sent."""

from dataclasses import dataclass, replace
from typing import Any

from torch import fx

from funpipe._errors import StageError
from funpipe._typing import TensorType
from funpipe.stages.piece import Piece
from funpipe.stages.stage import Kind, Region


@dataclass(frozen=True, eq=False, repr=False)
class Elsewhere(Region):
    """A region that another process runs; to call its module is an error.

    Args:
        lines: its operations as they print there.
    """

    lines: tuple[str, ...] = ()

    def operations(self) -> tuple[str, ...]:
        """As they print where the region runs, so that plans compare."""
        return self.lines

    def __reduce__(self) -> tuple[Any, ...]:
        """What is pickled: no graph."""
        return elsewhere, (self.kind, self.stage, self.inputs, self.outputs, self.types, self.lines)


def elsewhere(
    kind: Kind,
    stage: int,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    types: dict[str, TensorType],
    lines: tuple[str, ...],
) -> Elsewhere:
    """Makes a region that another process runs.

    Args:
        kind, stage, inputs, outputs, types: as of a `Region`.
        lines: its operations as they print there.
    """
    graph = fx.Graph()
    for i, _ in enumerate(inputs):
        graph.placeholder(f"x{i}")
    graph.output(graph.call_function(_not_here, (f"{kind}{stage}",)))
    return Elsewhere(kind, stage, fx.GraphModule({}, graph), inputs, outputs, types, lines)


def told(piece: Piece) -> Piece:
    """A piece that can be pickled: without its graphs.

    Args:
        piece: one of this process.

    Returns:
        The same piece, whose regions have no graphs; to run one is an error.

    Example:
        >>> import torch
        >>> from funpipe.tracing.part import Leaf, Part
        >>> part = Part(lambda p, b, i: ({"y": i["x"] * p["w"]}, b), {"w": Leaf.of(torch.ones(3))}, {},
        ...             {"x": Leaf.of(torch.ones(3))})
        >>> told(Piece.of(0, part.trace())).stage.F
        Region(F0, 2 inputs, 1 outputs)
    """
    stage = piece.stage
    regions = {r.kind: _told(r) for r in stage.regions}
    without = replace(stage, F=regions["F"], B=regions.get("B"), I=regions.get("I"), W=regions.get("W"))
    return replace(piece, stage=without)


def _told(r: Region) -> Elsewhere:
    return elsewhere(r.kind, r.stage, r.inputs, r.outputs, r.types, r.operations())


def _not_here(name: str) -> None:
    raise StageError(f"{name} runs in another process: run it there.")
