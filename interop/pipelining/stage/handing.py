"""What a stage is handed by other stages and hands on: their outputs, and the gradients of its own."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from funpipe.interop.pipelining.errors import PipeRuntimeError
from funpipe.interop.pipelining.stage.edges import readers
from funpipe.interop.pipelining.wiring import Argument

if TYPE_CHECKING:
    from funpipe.interop.pipelining.stage.base import _PipelineStageBase


def take_inputs(stage: "_PipelineStageBase", microbatch: int, source: int, outputs: Mapping[int, torch.Tensor]) -> None:
    """Keeps outputs of another stage as inputs of this one, cut off from what made them.

    Args:
        stage: who reads them.
        microbatch: which microbatch they are of.
        source: the stage that made them.
        outputs: the tensors by their number among the flat outputs of `source`; each requires a gradient as there.
    """
    kept = stage.received.setdefault(microbatch, {})
    for index, output in outputs.items():
        kept[Argument(source, index)] = output.detach().requires_grad_(stage.has_backward and output.requires_grad)


def outputs_for(stage: "_PipelineStageBase", microbatch: int, reader: int) -> dict[int, torch.Tensor]:
    """The outputs of a stage that another one reads, by their number.

    Raises:
        PipeRuntimeError: its forward of this microbatch has not run.
    """
    if microbatch not in stage.fwd_cache:
        raise PipeRuntimeError(
            f"{stage.log_prefix} has no outputs of microbatch {microbatch} for stage {reader}; "
            "run forward_one_chunk first"
        )
    outputs, _ = stage.fwd_cache[microbatch]
    wanted = readers(stage)[reader]
    return dict(enumerate(outputs)) if wanted is None else {index: outputs[index] for index in wanted}


def gradients_for(stage: "_PipelineStageBase", microbatch: int, source: int) -> dict[int, torch.Tensor | None]:
    """The gradients of a stage's inputs that come from `source`, by its outputs' numbers; they are handed out once.

    Raises:
        PipeRuntimeError: its backward of this microbatch has not run.
    """
    if microbatch not in stage.bwd_cache:
        raise PipeRuntimeError(
            f"{stage.log_prefix} has no gradients of microbatch {microbatch} for stage {source}; "
            "run backward_one_chunk first"
        )
    gradients = stage.bwd_cache[microbatch]
    mine = [argument for argument in gradients if argument.stage == source]
    return {int(argument.index): gradients.pop(argument) for argument in mine}


def take_gradients(
    stage: "_PipelineStageBase", microbatch: int, reader: int, gradients: Mapping[int, torch.Tensor | None]
) -> None:
    """Keeps the gradients that one reader has for the stage's outputs."""
    stage.arrived.setdefault(microbatch, {})[reader] = dict(gradients)


def summed_gradients(stage: "_PipelineStageBase", microbatch: int, count: int) -> list[torch.Tensor | None]:
    """One gradient for each output: what its readers have for it, added in the order of the stages.

    Raises:
        PipeRuntimeError: a reader has not handed over its gradients.
    """
    arrived = stage.arrived.pop(microbatch, {})
    missing = [reader for reader in readers(stage) if reader not in arrived]
    if missing:
        raise PipeRuntimeError(
            f"{stage.log_prefix} has no gradients of microbatch {microbatch} from stage {missing[0]}; "
            "receive them (get_bwd_recv_ops) or hand them over (set_local_bwd_input) before its backward"
        )
    return [_sum([arrived[reader].get(index) for reader in sorted(arrived)]) for index in range(count)]


def _sum(gradients: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    total = None
    for gradient in gradients:
        if gradient is not None:
            total = gradient if total is None else total + gradient
    return total
