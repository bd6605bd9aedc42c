import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

from funpipe.interop.pipelining import microbatch
from funpipe.interop.pipelining.microbatch import (
    TensorChunkSpec,
    _Replicate,
    merge_chunks,
    split_args_kwargs_into_chunks,
)
from tests.interop.pipelining.meshes import fake_ranks, line, shard, square

PLACEMENTS = [Shard(0), Shard(1), Replicate(), Partial()]


@pytest.fixture(autouse=True, scope="module")
def ranks():
    with fake_ranks(4):
        yield


def split(tensor, count, dim=0):
    return split_args_kwargs_into_chunks((tensor,), {}, count, (TensorChunkSpec(dim),))[0]


@settings(max_examples=20)
@given(st.sampled_from(PLACEMENTS), st.integers(1, 5), st.integers(-2, 1), st.integers(1, 4))
def test_merge_undoes_split(placement, rows, dim, count):
    whole = shard(rows, placement, columns=3)
    chunks = split(whole, count, dim)
    (merged,) = merge_chunks(chunks, (TensorChunkSpec(dim),))
    assert all(chunk.placements == merged.placements == whole.placements for (chunk,) in chunks)
    assert torch.equal(merged.to_local(), whole.to_local())
    assert (merged.shape, merged.stride()) == (whole.shape, whole.stride())


def test_each_rank_cuts_its_own_rows():
    first, second = (chunk for (chunk,) in split(shard(4, Shard(0)), 2))
    assert isinstance(first, DTensor) and first.shape == second.shape == (8, 2)
    assert torch.equal(second.to_local(), torch.tensor([[4.0, 5.0], [6.0, 7.0]]))


def test_the_rows_of_all_chunks_are_those_of_the_whole():
    """torch.distributed.pipelining says 6, 5 and 5 here, of which each rank would have 2, 2 and 2."""
    chunks = split(shard(4, Shard(0)), 3)
    assert [len(chunk) for (chunk,) in chunks] == [8, 4, 4]
    assert [len(chunk.to_local()) for (chunk,) in chunks] == [2, 1, 1]


def test_gradients_flow_through_and_a_leafs_chunks_keep_theirs():
    leaf = nn.Parameter(shard(4, Shard(0)))
    (first,), (second,) = split(leaf, 2)
    (first.to_local().sum() + 2 * second.to_local().sum()).backward()
    assert torch.equal(leaf.grad.to_local()[:, 0], torch.tensor([1.0, 1.0, 2.0, 2.0]))
    assert torch.equal(second.grad.to_local(), torch.full((2, 2), 2.0))


def test_replicated_chunks_are_compared_locally():
    (merged,) = merge_chunks([(shard(2, Shard(0)),), (shard(2, Shard(0)),)], (_Replicate,))
    assert isinstance(merged, DTensor) and merged.shape == (8, 2)


def test_masked_chunks_have_the_size_of_the_whole(monkeypatch):
    monkeypatch.setattr(microbatch, "_debug_mask_minibatches", True)
    whole = shard(4, Shard(0))
    chunks = split(whole, 2)
    assert [chunk.shape for (chunk,) in chunks] == [whole.shape] * 2
    (merged,) = merge_chunks(chunks)
    assert merged.shape == whole.shape and torch.equal(merged.to_local(), whole.to_local())


def test_transposed_shards_are_merged_to_a_tensor_without_gaps():
    local = torch.arange(8.0).view(2, 4).t()
    whole = DTensor.from_local(local, line(), [Shard(0)], run_check=False)
    (merged,) = merge_chunks(split(whole, 2))
    assert torch.equal(merged.to_local(), local)
    assert merged.stride() == DTensor.from_local(merged.to_local(), line(), [Shard(0)], run_check=False).stride()


@pytest.mark.parametrize("plain_first", [True, False])
def test_a_mix_is_an_error(plain_first):
    mixed = [(torch.ones(8, 2),), (shard(2, Shard(0)),)]
    with pytest.raises(
        AssertionError, match="all values to be DTensors or none to be DTensors, got a mix; return a DTensor"
    ):
        merge_chunks(mixed if plain_first else mixed[::-1])


def test_other_placements_or_another_mesh_are_an_error():
    with pytest.raises(
        AssertionError, match=r"placement mismatch at chunk 1: expected \(Shard\(dim=0\),\), got \(Repl"
    ):
        merge_chunks([shard(1, Shard(0)), shard(4, Replicate())])
    other = DeviceMesh("cpu", [[0, 2], [1, 3]])
    with pytest.raises(AssertionError, match="mesh mismatch at chunk 1: .*to one mesh"):
        merge_chunks([shard(2, Replicate(), Replicate(), mesh=mesh) for mesh in (square(), other)])
