"""How many rows of a DTensor lie on each rank: arithmetic on its shape, mesh and placements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from funpipe.interop.pipelining.errors import PipeValueError

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def shards(rows: int, like: DTensor, dim: int) -> list[int]:
    """The rows of each shard along a dimension, in their order; one number if it is not sharded.

    Args:
        rows: All rows.
        like: A DTensor with the mesh and the placements in question.
        dim: The dimension.
    """
    sizes = [rows]
    for ranks, placement in zip(like.device_mesh.shape, like.placements, strict=True):
        if placement.is_shard(dim % like.ndim):
            sizes = [part for size in sizes for part in _sharded(size, ranks)]
    return sizes


def rows_of_chunks(tensor: DTensor, dim: int, count: int, name: str) -> list[int]:
    """The rows of each chunk on all ranks together, when every shard is cut by itself.

    Args:
        tensor: The whole.
        dim: The dimension of the rows.
        count: How many chunks.
        name: What the tensor is, for messages.

    Raises:
        PipeValueError: Shards of such sizes make no DTensor.
    """
    whole = shards(tensor.size(dim), tensor, dim)
    parts = [list(part) for part in zip(*(_chunked(rows, count) for rows in whole), strict=True)]
    for i, part in enumerate(parts):
        if part != shards(sum(part), tensor, dim):
            raise PipeValueError(
                f"{name}: its {tensor.size(dim)} rows along dimension {dim} lie in shards of {whole}; chunk {i} of "
                f"{count} would have {part} of them, which is no sharding of {sum(part)} rows; "
                f"pad the rows to a multiple of {len(whole) * count}."
            )
    return [sum(part) for part in parts]


def _sharded(rows: int, ranks: int) -> list[int]:
    """As `Shard` does it: the first ones full, the last ones what is left."""
    full = -(-rows // ranks)
    return [max(0, min(full, rows - rank * full)) for rank in range(ranks)]


def _chunked(rows: int, count: int) -> list[int]:
    """As `torch.tensor_split` does it: the first ones have a row more."""
    return [rows // count + (i < rows % count) for i in range(count)]
