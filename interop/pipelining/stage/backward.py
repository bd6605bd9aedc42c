"""The backward of one stage and one microbatch: whole, or its inputs' part and its weights' part."""

from typing import TYPE_CHECKING, Any

import torch

from funpipe.interop.pipelining._backward import stage_backward, stage_backward_input, stage_backward_weight
from funpipe.interop.pipelining._backward.graph import leaves_below
from funpipe.interop.pipelining.errors import PipeAssertionError, PipeRuntimeError
from funpipe.interop.pipelining.stage.checked import check
from funpipe.interop.pipelining.stage.handing import summed_gradients
from funpipe.interop.pipelining.stage.outputs import detached, flat_tensors

if TYPE_CHECKING:
    from funpipe.interop.pipelining.stage.base import _PipelineStageBase

Gradients = tuple[torch.Tensor | None, ...]


def backward(stage: "_PipelineStageBase", microbatch: int, loss: Any, full_backward: bool) -> None:
    """Runs the backward of one microbatch and keeps the gradients of what the stage received.

    Raises:
        PipeRuntimeError: there was no forward, no loss or no gradient of this microbatch, or autograd failed.
    """
    if microbatch not in stage.fwd_cache:
        raise PipeRuntimeError(
            f"{stage.log_prefix} has no forward of microbatch {microbatch} to go back through; "
            "run forward_one_chunk first, and each backward once"
        )
    outputs, inputs = stage.fwd_cache.pop(microbatch)
    started, gradients = _start(stage, microbatch, outputs, loss)
    whole = full_backward or stage.dw_builder is not None
    run = _whole if whole else _inputs_only
    of_inputs = run(stage, microbatch, started, gradients, inputs)
    received = stage.received.pop(microbatch, {})
    stage.bwd_cache[microbatch] = dict(zip(received, of_inputs, strict=False))
    check(stage, "input gradient", stage.input_grads_meta, of_inputs[: len(received)])
    if stage.dw_builder is not None:
        stage.dw_runner[microbatch] = stage.dw_builder()
        if full_backward:
            stage.dw_runner.pop(microbatch)()
    _let_go(stage, microbatch)


def _start(
    stage: "_PipelineStageBase", microbatch: int, outputs: tuple[torch.Tensor, ...], loss: Any
) -> tuple[Any, Any]:
    """What the backward starts from, and the gradients there."""
    if loss is not None:
        return loss, None
    if stage.is_last:
        raise PipeRuntimeError(
            f"{stage.log_prefix} is the last one and has no loss of microbatch {microbatch}; pass loss= to its backward"
        )
    gradients = summed_gradients(stage, microbatch, len(outputs))
    check(stage, "output gradient", stage.output_grads_meta, gradients)
    return outputs, gradients


def _whole(stage: "_PipelineStageBase", microbatch: int, started: Any, gradients: Any, inputs: list[Any]) -> Gradients:
    return stage_backward(started, gradients, inputs)


def _inputs_only(
    stage: "_PipelineStageBase", microbatch: int, started: Any, gradients: Any, inputs: list[Any]
) -> Gradients:
    # Not the module's parameters alone: a loss function may have some, too.
    weights = leaves_below(flat_tensors(started), inputs)
    of_inputs, groups = stage_backward_input(started, gradients, inputs, iter(weights))
    stage.backward_state[microbatch] = weights, groups
    return of_inputs


def backward_weight(stage: "_PipelineStageBase", microbatch: int) -> None:
    """Runs what the inputs' part left.

    Raises:
        PipeAssertionError: the inputs' part of this microbatch did not run.
    """
    if microbatch in stage.dw_runner:
        stage.dw_runner.pop(microbatch)()
    elif microbatch in stage.backward_state:
        weights, groups = stage.backward_state.pop(microbatch)
        stage_backward_weight(iter(weights), groups)
    else:
        raise PipeAssertionError(
            f"{stage.log_prefix} Attempted to run backward_weight_one_chunk for chunk {microbatch} "
            "without first calling `backward_one_chunk(full_backward=False)`; call that first, and each once"
        )


def _let_go(stage: "_PipelineStageBase", microbatch: int) -> None:
    """Takes the graph off an output that is kept, so that its activations are freed with its backward."""
    if stage.is_last and microbatch < len(stage.output_chunks):
        stage.output_chunks[microbatch] = detached(stage.output_chunks[microbatch])
