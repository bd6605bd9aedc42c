"""Sends and receives of a stage for who drives stages himself: tensors of known shapes, with torch.distributed's P2P.

Both ends must name the same tensors: a tensor of a floating dtype has a gradient message, zeros where there is none.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from funpipe.interop.pipelining.errors import PipeliningMetadataError
from funpipe.interop.pipelining.stage.edges import outputs_read, readers, sources
from funpipe.interop.pipelining.stage.handing import gradients_for, outputs_for, take_gradients, take_inputs

if TYPE_CHECKING:
    from funpipe.interop.pipelining.stage.base import _PipelineStageBase


def is_here(stage: "_PipelineStageBase", other: int) -> bool:
    """Whether another stage is in the same process."""
    return stage.stage_index_to_group_rank[other] == stage.group_rank


def receive_inputs(stage: "_PipelineStageBase", microbatch: int) -> list[dist.P2POp]:
    """Receives for the inputs that come from other processes, into new tensors shaped like the declared inputs.

    Raises:
        PipeliningMetadataError: the shapes are not known.
    """
    found = []
    for source in sources(stage):
        if not is_here(stage, source):
            buffers = {index: _buffer(meta, stage.device) for index, meta in _declared(stage, source).items()}
            take_inputs(stage, microbatch, source, buffers)
            found += _operations(dist.irecv, buffers.values(), stage, source)
    return found


def _declared(stage: "_PipelineStageBase", source: int) -> dict[int, torch.Tensor]:
    """The declared inputs that come from one stage, by its outputs' numbers."""
    if stage.inputs_meta is None:
        raise PipeliningMetadataError(
            f"{stage.log_prefix} does not know the shapes of its inputs; "
            "pass input_args=, example tensors of one microbatch"
        )
    if stage.wiring is None:
        return dict(enumerate(stage.inputs_meta))
    named = {a.index: meta for a, meta in zip(stage.wiring, stage.inputs_meta, strict=True) if a.stage == source}
    return {index: named[index] for index in outputs_read(stage.wiring, source)}


def _buffer(meta: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Memory for a tensor; one of a floating dtype requires a gradient."""
    return torch.empty(meta.shape, dtype=meta.dtype, device=device).requires_grad_(has_gradient(meta))


def has_gradient(tensor: torch.Tensor) -> bool:
    """Whether tensors of this dtype have gradients."""
    return tensor.is_floating_point() or tensor.is_complex()


def send_outputs(stage: "_PipelineStageBase", microbatch: int) -> list[dist.P2POp]:
    """Sends of the outputs that other processes' stages read."""
    found = []
    for reader in readers(stage):
        if not is_here(stage, reader):
            found += _operations(dist.isend, outputs_for(stage, microbatch, reader).values(), stage, reader)
    return found


def receive_gradients(stage: "_PipelineStageBase", microbatch: int) -> list[dist.P2POp]:
    """Receives for the gradients of the outputs that other processes' stages read."""
    found = []
    for reader in readers(stage):
        if not is_here(stage, reader):
            outputs = outputs_for(stage, microbatch, reader)
            buffers = {index: torch.empty_like(o).contiguous() for index, o in outputs.items() if has_gradient(o)}
            take_gradients(stage, microbatch, reader, buffers)
            found += _operations(dist.irecv, buffers.values(), stage, reader)
    return found


def send_gradients(stage: "_PipelineStageBase", microbatch: int) -> list[dist.P2POp]:
    """Sends of the gradients of the inputs that came from other processes.

    Raises:
        PipeRuntimeError: the backward of this microbatch has not run.
    """
    found = []
    for source in sources(stage):
        if not is_here(stage, source):
            gradients = _filled(stage, source, gradients_for(stage, microbatch, source))
            found += _operations(dist.isend, gradients, stage, source)
    return found


def _filled(
    stage: "_PipelineStageBase", source: int, gradients: Mapping[int, torch.Tensor | None]
) -> list[torch.Tensor]:
    declared = {index: meta for index, meta in _declared(stage, source).items() if has_gradient(meta)}
    return [_or_zeros(gradients.get(index), meta, stage.device) for index, meta in declared.items()]


def _or_zeros(gradient: torch.Tensor | None, meta: torch.Tensor, device: torch.device) -> torch.Tensor:
    return torch.zeros(meta.shape, dtype=meta.dtype, device=device) if gradient is None else gradient


def _operations(
    kind: Callable, tensors: Iterable[torch.Tensor], stage: "_PipelineStageBase", other: int
) -> list[dist.P2POp]:
    rank = stage.stage_index_to_group_rank[other]
    peer = rank if stage.group is None else dist.get_global_rank(stage.group, rank)
    return [dist.P2POp(kind, tensor.detach().contiguous(), peer, stage.group) for tensor in tensors]
