"""One DTensor: each rank cuts and joins its own shard, nothing is sent, and the placements stay.

Where the rows themselves are sharded, a chunk has some rows of every shard.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from funpipe.interop.pipelining._utils import is_dtensor
from funpipe.interop.pipelining.errors import PipeAssertionError
from funpipe.interop.pipelining.microbatch.masking import masked
from funpipe.interop.pipelining.microbatch.shards import rows_of_chunks
from funpipe.interop.pipelining.microbatch.tensors import join_tensors, keep_grad, split_tensor

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def split_dtensor(tensor: DTensor, dim: int, count: int, name: str) -> list[Tensor]:
    """Cuts each rank's shard into chunks.

    Args:
        tensor: A DTensor.
        dim: The dimension of the rows.
        count: How many chunks; at most as many as rows of the smallest shard.
        name: What the tensor is, for messages.

    Returns:
        DTensors with the mesh and the placements of the whole.

    Raises:
        PipeValueError: The shards are so uneven that a chunk's shards would make no DTensor.
    """
    chunks = split_tensor(tensor.to_local(), dim, count)
    rows = [tensor.size(dim)] * count if masked() else rows_of_chunks(tensor, dim, count, name)
    shapes = [_resized(tensor.shape, dim, size) for size in rows]
    whole = [_like(tensor, *chunk, tensor.stride()) for chunk in zip(chunks, shapes, strict=True)]
    return [keep_grad(chunk, tensor) for chunk in whole]


def join_dtensors(chunks: Sequence[Tensor], dim: int) -> Tensor:
    """Concatenates the shards of each rank.

    Args:
        chunks: DTensors of one mesh and the same placements.
        dim: The dimension of the rows.

    Returns:
        A DTensor with that mesh and those placements.

    Raises:
        PipeAssertionError: Some chunks are no DTensors, or their meshes or placements differ.
    """
    tensors = _of_one_kind(chunks)
    local = join_tensors([tensor.to_local() for tensor in tensors], dim)
    rows = tensors[0].size(dim) if masked() else sum(tensor.size(dim) for tensor in tensors)
    shape = _resized(tensors[0].shape, dim, rows)
    return _like(tensors[0], local, shape, _dense(shape, local.stride()))


def _of_one_kind(chunks: Sequence[Tensor]) -> list[DTensor]:
    tensors = [chunk for chunk in chunks if is_dtensor(chunk)]
    if len(tensors) < len(chunks):
        raise PipeAssertionError(
            "merge_chunks: expected all values to be DTensors or none to be DTensors, got a mix; "
            "return a DTensor from every microbatch, or its to_local()."
        )
    first = tensors[0]
    for i, tensor in enumerate(tensors):
        if tensor.placements != first.placements:
            raise _differs("placement", i, first.placements, tensor.placements)
        if tensor.device_mesh != first.device_mesh:
            raise _differs("mesh", i, first.device_mesh, tensor.device_mesh)
    return tensors


def _differs(what: str, i: int, expected: object, got: object) -> PipeAssertionError:
    return PipeAssertionError(
        f"merge_chunks: {what} mismatch at chunk {i}: expected {expected}, got {got}; redistribute the outputs of all "
        f"microbatches to one {what}."
    )


def _like(tensor: DTensor, local: Tensor, shape: torch.Size, stride: tuple[int, ...]) -> DTensor:
    """A DTensor of this rank's shard, with the mesh and the placements of another."""
    mesh, placements = tensor.device_mesh, tensor.placements
    return type(tensor).from_local(local, mesh, placements, run_check=False, shape=shape, stride=stride)


def _resized(shape: torch.Size, dim: int, size: int) -> torch.Size:
    sizes = list(shape)
    sizes[dim] = size
    return torch.Size(sizes)


def _dense(shape: torch.Size, order: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a tensor without gaps whose dimensions lie in memory in the order of other strides."""
    strides, step = [0] * len(shape), 1
    for dim in sorted(range(len(shape)), key=lambda dim: (order[dim], -dim)):
        strides[dim] = step
        step *= shape[dim]
    return tuple(strides)
