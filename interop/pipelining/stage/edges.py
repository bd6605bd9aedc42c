"""Which stages a stage reads from, and which read from it."""

from typing import TYPE_CHECKING

from funpipe.interop.pipelining.wiring import Argument

if TYPE_CHECKING:
    from funpipe.interop.pipelining.stage.base import _PipelineStageBase


def sources(stage: "_PipelineStageBase") -> list[int]:
    """The stages whose outputs a stage reads, in order."""
    if stage.wiring is None:
        return [] if stage.is_first else [stage.stage_index - 1]
    return sorted({argument.stage for argument in stage.wiring if argument.stage is not None})


def readers(stage: "_PipelineStageBase") -> dict[int, list[int] | None]:
    """The stages that read a stage's outputs, in order, each with the outputs it reads; None: all of them."""
    if stage.pipeline_wiring is None:
        return {} if stage.is_last else {stage.stage_index + 1: None}
    read = {i: outputs_read(wiring, stage.stage_index) for i, wiring in enumerate(stage.pipeline_wiring)}
    return {index: outputs for index, outputs in read.items() if outputs}


def outputs_read(wiring: tuple[Argument, ...], source: int) -> list[int]:
    """Which flat outputs of a stage one with this wiring reads, each once and in order.

    Example:
        >>> outputs_read((Argument(0, 2), Argument(None, 0), Argument(0, 1), Argument(0, 2)), source=0)
        [1, 2]
    """
    return sorted({int(argument.index) for argument in wiring if argument.stage == source})
