import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from funpipe.interop.pipelining import microbatch
from funpipe.interop.pipelining.microbatch import TensorChunkSpec, merge_chunks, split_args_kwargs_into_chunks
from funpipe.interop.pipelining.microbatch.masking import mask, masked, unmask
from tests.interop.pipelining.batches import tensors


@pytest.fixture
def debugging(monkeypatch):
    monkeypatch.setattr(microbatch, "_debug_mask_minibatches", True)


def test_off_unless_it_is_switched_on(monkeypatch):
    assert not masked()
    monkeypatch.setattr(microbatch, "_debug_mask_minibatches", True)
    assert masked()


@pytest.mark.usefixtures("debugging")
def test_chunks_have_the_size_of_the_whole_and_zeros_elsewhere():
    args, _ = split_args_kwargs_into_chunks((torch.arange(1, 6),), {}, 2)
    assert [chunk.tolist() for (chunk,) in args] == [[1, 2, 3, 0, 0], [0, 0, 0, 4, 5]]


@pytest.mark.usefixtures("debugging")
def test_merging_takes_each_chunks_own_rows():
    spec = (TensorChunkSpec(1),)
    whole = torch.arange(10.0).view(2, 5)
    args, _ = split_args_kwargs_into_chunks((whole,), {}, 3, spec)
    assert torch.equal(merge_chunks([(chunk + 1,) for (chunk,) in args], spec)[0], whole + 1)


@pytest.mark.usefixtures("debugging")
def test_gradients_reach_the_whole():
    whole = torch.ones(4, requires_grad=True)
    ((first,), (second,)), _ = split_args_kwargs_into_chunks((whole,), {}, 2)
    (first.sum() + 3 * second.sum()).backward()
    assert whole.grad.tolist() == [1, 1, 3, 3]


@given(tensors(), st.data())
def test_unmask_undoes_mask(drawn, data):
    tensor, dim = drawn
    chunks = torch.tensor_split(tensor, data.draw(st.integers(1, tensor.size(dim))), dim)
    assert all(map(torch.equal, unmask(mask(chunks, tensor, dim), dim), chunks))
