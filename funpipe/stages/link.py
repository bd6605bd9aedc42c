"""Connects stages that were traced one by one: what one makes, another reads under the same name."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from funpipe._errors import StageError
from funpipe.stages.piece import Piece, named
from funpipe.stages.stage import Stage
from funpipe.tracing.part import gradient_of

Wires = Mapping[tuple[int, str], tuple[int, str]]
"""For a stage and one of its inputs, the stage and the output that it comes from."""


def reader_of(stage: int, name: str) -> str:
    """How the maker of an input calls the stage that reads it, in the name of the gradient that comes back."""
    return f"{stage}.{name}"


def readers(wires: Wires, stage: int) -> dict[str, tuple[str, ...]]:
    """Who gives gradients of a stage's outputs, as `Part.trace` takes it.

    Args:
        wires: all of them.
        stage: whose outputs.

    Returns:
        For each output that is read its readers, in the order of their stages.

    Example:
        >>> readers({(1, "x"): (0, "y"), (2, "s"): (0, "y")}, 0)
        {'y': ('1.x', '2.s')}
    """
    found: dict[str, tuple[str, ...]] = {}
    for (reader, name), (maker, output) in sorted(wires.items()):
        if maker == stage:
            found[output] = (*found.get(output, ()), reader_of(reader, name))
    return found


def link(pieces: Sequence[Piece], wires: Wires) -> tuple[Stage, ...]:
    """Connects stages.

    Args:
        pieces: one for each stage, in order.
        wires: where their inputs come from; those that are not named belong to the batch.

    Returns:
        The stages, as a partition of a model that was traced whole would have them.

    Raises:
        StageError: a stage waits for a gradient that its reader does not give.

    Example:
        >>> import torch
        >>> from funpipe.tracing.part import Leaf, Part
        >>> def layer(params, buffers, inputs):
        ...     return {"y": torch.tanh(inputs["x"] @ params["w"])}, buffers
        >>> w, x = Leaf.of(torch.ones(3, 3, requires_grad=True)), Leaf.of(torch.ones(4, 3))
        >>> first = Part(layer, {"w": w}, {}, {"x": x})
        >>> second = Part(layer, {"w": w}, {}, {"x": first.outputs()["y"]})
        >>> wires = {(1, "x"): (0, "y")}
        >>> traced = [part.trace(readers(wires, i)) for i, part in enumerate((first, second))]
        >>> stages = link([Piece.of(i, one) for i, one in enumerate(traced)], wires)
        >>> stages[0].F.outputs, stages[1].F.inputs
        (('tanh_s0',), ('param.1.w', 'tanh_s0'))
    """
    names: dict[str, str] = {}
    for (reader, name), (maker, output) in wires.items():
        names[f"batch.{reader}.{name}"] = pieces[maker].outputs[output]
        leaf = gradient_of(output, reader_of(reader, name))
        if name in pieces[reader].gradients:
            names[f"batch.{maker}.{leaf}"] = pieces[reader].gradients[name]
        elif f"{maker}.{leaf}" in pieces[maker].batch:
            raise StageError(
                f"stage {maker} waits for a gradient of its output {output!r}, and stage {reader}, which reads it as "
                f"{name!r}, gives none: trace the parts of both with, or both without, that leaf trained."
            )
    return tuple(_linked(piece.stage, names) for piece in pieces)


def _linked(stage: Stage, names: Mapping[str, str]) -> Stage:
    regions = {r.kind: named(r, lambda n: names.get(n, n)) for r in stage.regions}
    return replace(stage, F=regions["F"], B=regions.get("B"), I=regions.get("I"), W=regions.get("W"))
