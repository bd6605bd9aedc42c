import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, create_mask

from funpipe.interop.pipelining.microbatch import (
    TensorChunkSpec,
    _Replicate,
    _split_block_mask,
    split_args_kwargs_into_chunks,
)


def by_row(b, h, q_idx, kv_idx):
    """A mask that is another one for each row of the batch."""
    return q_idx >= kv_idx + 16 * b


def made(batch, mask_mod=by_row, length=64):
    return create_block_mask(mask_mod, batch, None, length, length, device="cpu", BLOCK_SIZE=16)


@settings(max_examples=10)
@given(st.integers(2, 5), st.integers(1, 5))
def test_chunks_mask_what_the_whole_masks_in_their_rows(batch, count):
    mask = made(batch)
    chunks = _split_block_mask(mask, min(count, batch))
    assert [chunk.shape[0] for chunk in chunks] == [len(part) for part in torch.arange(batch).tensor_split(len(chunks))]
    dense = [create_mask(chunk.mask_mod, chunk.shape[0], 1, 64, 64, device="cpu") for chunk in chunks]
    assert torch.equal(torch.cat(dense), create_mask(by_row, batch, 1, 64, 64, device="cpu"))
    assert torch.equal(torch.cat([chunk.to_dense() for chunk in chunks]), mask.to_dense())


def test_all_that_a_mask_knows_of_its_blocks_is_cut():
    mask = made(4)
    chunks = _split_block_mask(mask, 2)
    for name in ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices", "q_num_blocks", "q_indices"):
        assert torch.equal(torch.cat([getattr(chunk, name) for chunk in chunks]), getattr(mask, name))
    assert all(chunk.seq_lengths == mask.seq_lengths and chunk.BLOCK_SIZE == mask.BLOCK_SIZE for chunk in chunks)


def test_a_mask_for_every_row_is_shared():
    mask = made(1)
    assert all(chunk is mask for chunk in _split_block_mask(mask, 3))
    args, _ = split_args_kwargs_into_chunks((torch.ones(2, 1), mask), {}, 2)
    assert all(chunk[1] is mask for chunk in args)


def test_arguments_may_hold_masks():
    args, kwargs = split_args_kwargs_into_chunks((torch.ones(4, 2), [made(4)]), {"mask": made(4)}, 2)
    assert [chunk[1][0].shape[0] for chunk in args] == [chunk["mask"].shape[0] for chunk in kwargs] == [2, 2]
    assert all(isinstance(chunk["mask"], BlockMask) for chunk in kwargs)


def test_there_are_at_most_as_many_chunks_as_rows():
    args, _ = split_args_kwargs_into_chunks((torch.ones(4, 2), made(2)), {}, 4)
    assert [(len(x), mask.shape[0]) for x, mask in args] == [(2, 1), (2, 1)]
    with pytest.raises(
        AssertionError, match="fewer batch size than the number of chunks: 2 rows for 3; make at most 2"
    ):
        _split_block_mask(made(2), 3)


def test_a_mask_may_be_replicated_and_is_cut_along_its_batch_only():
    mask = made(2)
    args, _ = split_args_kwargs_into_chunks((mask,), {}, 3, (_Replicate,))
    assert [chunk for (chunk,) in args] == [mask] * 3
    with pytest.raises(AssertionError, match=r"BlockMask only supports split_dim=0, got 1 for args\[0\]; pass"):
        split_args_kwargs_into_chunks((mask,), {}, 2, (TensorChunkSpec(1),))
