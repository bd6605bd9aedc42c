"""The same calls of torch.distributed.pipelining give the same chunks, and the same merged values."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.pipelining import microbatch as theirs

from funpipe.interop.pipelining import microbatch as ours
from tests.interop.pipelining.batches import calls, same, tensors


def in_their_words(spec):
    """A tree of specs of this layer as one of theirs."""
    if isinstance(spec, dict):
        return {key: in_their_words(value) for key, value in spec.items()}
    if isinstance(spec, list | tuple):
        return type(spec)(map(in_their_words, spec))
    return theirs.TensorChunkSpec(spec.split_dim) if isinstance(spec, ours.TensorChunkSpec) else theirs._Replicate


@given(calls(ours.TensorChunkSpec, ours._Replicate))
def test_the_same_chunks_by_specs(call):
    args, kwargs, args_spec, kwargs_spec, count = call
    expected = theirs.split_args_kwargs_into_chunks(
        args, kwargs, count, in_their_words(args_spec), in_their_words(kwargs_spec)
    )
    assert same(ours.split_args_kwargs_into_chunks(args, kwargs, count, args_spec, kwargs_spec), expected)


@given(calls(ours.TensorChunkSpec, ours._Replicate))
def test_the_same_chunks_by_default(call):
    args, kwargs, *_, count = call
    expected = theirs.split_args_kwargs_into_chunks(args, kwargs, count)
    assert same(ours.split_args_kwargs_into_chunks(args, kwargs, count), expected)


@given(tensors(), st.integers(1, 4))
def test_the_same_merged_values(drawn, count):
    tensor, dim = drawn
    chunks = [(tensor + i, [tensor.double().sum()], 3) for i in range(count)]
    expected = theirs.merge_chunks(chunks, (theirs.TensorChunkSpec(dim), [theirs.sum_reducer], None))
    assert same(ours.merge_chunks(chunks, (ours.TensorChunkSpec(dim), [ours.sum_reducer], None)), expected)


def test_the_same_names():
    assert set(theirs.__all__) <= set(ours.__all__)
    assert str(theirs.TensorChunkSpec(1)) == str(ours.TensorChunkSpec(1))
    assert torch.equal(theirs.sum_reducer.init_value, ours.sum_reducer.init_value)
