from collections import namedtuple

import pytest
import torch

from funpipe import FunpipeError
from funpipe.interop.pipelining.microbatch import (
    TensorChunkSpec,
    _CustomReducer,
    _Replicate,
    merge_chunks,
    sum_reducer,
)
from tests.interop.pipelining.batches import same

ones, zeros = torch.ones(2, 3), torch.zeros(2, 3)
Output = namedtuple("Output", "logits loss")


def test_tensors_are_joined_along_the_dimension_of_their_spec():
    assert same(merge_chunks([ones, zeros], TensorChunkSpec(1)), torch.cat([ones, zeros], 1))
    assert same(merge_chunks([ones, zeros], TensorChunkSpec(-1)), torch.cat([ones, zeros], 1))
    assert same(merge_chunks([(ones,), (zeros[:1],)], (TensorChunkSpec(0),)), (torch.cat([ones, zeros[:1]]),))


@pytest.mark.parametrize(
    "wrap", [lambda x: x, lambda x: (x,), lambda x: [x, {"y": x}], lambda x: {"y": (x, "z", None)}]
)
def test_by_default_along_the_first(wrap):
    assert same(merge_chunks([wrap(ones), wrap(zeros)]), wrap(torch.cat([ones, zeros])))


def test_a_named_tuple_stays_one():
    chunks = [Output(ones, torch.tensor(1.0)), Output(zeros, torch.tensor(2.0))]
    merged = merge_chunks(chunks, Output(None, sum_reducer))
    assert isinstance(merged, Output) and same(merged.loss, torch.tensor(3.0))


def test_reducers_fold():
    product = _CustomReducer(10.0, lambda so_far, value: so_far * value)
    merged = merge_chunks(
        [{"p": 2.0, "s": torch.tensor(2.0)}, {"p": 3.0, "s": torch.tensor(3.0)}], {"p": product, "s": sum_reducer}
    )
    assert merged == {"p": 60.0, "s": torch.tensor(5.0)}


def test_one_spec_holds_for_all_below_it():
    merged = merge_chunks([(ones, {"y": zeros})] * 2, TensorChunkSpec(1))
    assert merged[0].shape == merged[1]["y"].shape == (2, 6)


@pytest.mark.parametrize("spec", [_Replicate, _Replicate()])
def test_replicated_tensors_must_be_the_same(spec):
    assert same(merge_chunks([(ones, 3), (ones.clone(), 3)], (spec, spec)), (ones, 3))
    with pytest.raises(
        AssertionError, match=r"(?s)Expected tensor.*got tensor.*chunk\[0\] of microbatches 0 and 1; return"
    ):
        merge_chunks([(ones, 3), (zeros, 3)], (spec, spec))


def test_a_spec_of_another_structure_gives_the_result_its_own():
    assert same(merge_chunks([ones, zeros], (TensorChunkSpec(1),)), (torch.cat([ones, zeros], 1),))
    assert same(merge_chunks([(ones, 3)] * 2, [None, None]), [torch.cat([ones, ones]), 3])


def test_numbers_of_all_microbatches_become_a_vector():
    chunks = [{"loss": torch.tensor(1.0), "y": ones}, {"loss": torch.tensor(2.0), "y": ones}]
    merged = merge_chunks(chunks)
    assert merged["loss"].tolist() == [1.0, 2.0] and merged["y"].shape == (4, 3)


def test_gradients_flow_through():
    parts = [torch.ones(2, requires_grad=True) for _ in range(2)]
    merge_chunks(parts).mul(torch.arange(4.0)).sum().backward()
    assert [part.grad.tolist() for part in parts] == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    ("chunks", "spec", "kind", "text"),
    [
        ([], None, IndexError, "merge_chunks got no chunks; pass at least one"),
        (
            [(3,), (4,)],
            (None,),
            AssertionError,
            r"Expected 3, got 4: chunk\[0\] of microbatches 0 and 1; return the same",
        ),
        (
            [(1, 2)] * 2,
            (None,),
            ValueError,
            r"Chunk \(\*, \*\) did not match chunk spec \(\*,\): 2 leaves, 1 specs; give",
        ),
        ([(ones,), {"y": ones}], None, ValueError, r"Chunk 1 is \{'y': \*\}, but chunk 0 is \(\*,\); return the same"),
        (
            [3, 3],
            TensorChunkSpec(0),
            TypeError,
            "chunk of microbatch 0 is 3, not a tensor, and cannot be joined; return a",
        ),
        ([ones, 3], None, TypeError, "chunk of microbatch 1 is 3, not a tensor"),
        (
            [torch.tensor(1.0)] * 2,
            TensorChunkSpec(0),
            RuntimeError,
            r"has shape \(\), and no dimension 0 .*; merge it with sum_reducer",
        ),
        (
            [ones, ones.t()],
            None,
            RuntimeError,
            r"must match except in dimension 0: .*\(2, 3\).*\(3, 2\) in microbatch 1",
        ),
        ([ones, ones], 0, TypeError, "the chunk spec of chunk is 0; pass a TensorChunkSpec, a _CustomReducer"),
    ],
)
def test_what_cannot_be_merged(chunks, spec, kind, text):
    with pytest.raises(kind, match=text) as raised:
        merge_chunks(chunks, spec)
    assert isinstance(raised.value, FunpipeError)
