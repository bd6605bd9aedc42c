"""One `BlockMask` of flex attention, cut along its batch: blocks are sliced, the mask function sees the old rows."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor

from funpipe.interop.pipelining.errors import PipeAssertionError

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


def is_block_mask(value: object) -> TypeGuard[BlockMask]:
    """Whether a value is a `BlockMask`.

    Args:
        value: Anything.

    Example:
        >>> is_block_mask("mask")
        False
    """
    # Not imported for the question: that takes long, and until somebody did there is none.
    return isinstance(value, getattr(sys.modules.get("torch.nn.attention.flex_attention"), "BlockMask", ()))


def _split_block_mask(block_mask: BlockMask, num_chunks: int) -> list[BlockMask]:
    """Cuts a mask into chunks of consecutive rows of the batch.

    Args:
        block_mask: The mask. One whose batch is 1 holds for every row: all chunks are the mask itself.
        num_chunks: How many chunks.

    Returns:
        Masks whose functions take the index of a row in the chunk.

    Raises:
        PipeAssertionError: The mask has fewer rows than there are chunks.

    Example:
        >>> from torch.nn.attention.flex_attention import create_block_mask
        >>> mask = create_block_mask(lambda b, h, q, kv: q >= kv, B=3, H=None, Q_LEN=128, KV_LEN=128, device="cpu")
        >>> [chunk.shape[0] for chunk in _split_block_mask(mask, 2)]
        [2, 1]
    """
    rows = block_mask.shape[0]
    if rows == 1:
        return [block_mask] * num_chunks
    if rows < num_chunks:
        raise PipeAssertionError(
            f"Block mask has fewer batch size than the number of chunks: {rows} rows for {num_chunks}; "
            f"make at most {rows} microbatches, or a mask with a batch of 1."
        )
    ranges = torch.tensor_split(torch.arange(rows), num_chunks)
    return [_slice(block_mask, int(part[0]), len(part)) for part in ranges]


def _slice(block_mask: BlockMask, start: int, rows: int) -> BlockMask:
    chunk = block_mask[start : start + rows]
    chunk.mask_mod = _shifted(block_mask.mask_mod, start)
    return chunk


def _shifted(mask_mod: Callable[..., Tensor], start: int) -> Callable[..., Tensor]:
    """The mask function of rows from `start` on."""

    def mask_of_chunk(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return mask_mod(b + start, h, q_idx, kv_idx)

    return mask_of_chunk
