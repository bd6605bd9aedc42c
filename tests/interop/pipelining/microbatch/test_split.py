import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from funpipe import FunpipeError
from funpipe.interop.pipelining.microbatch import (
    TensorChunkSpec,
    _Replicate,
    merge_chunks,
    split_args_kwargs_into_chunks,
    split_targets,
)
from tests.interop.pipelining.batches import calls, same, tensors


def shapes(trees):
    return [[tuple(leaf.shape) for leaf in tree] for tree in trees]


def rows(count):
    return torch.arange(2.0 * count).view(count, 2)


def test_a_chunk_of_positional_arguments_is_a_tuple_and_one_of_keywords_a_dict():
    args, kwargs = split_args_kwargs_into_chunks((rows(4), "mean"), {"y": rows(2)}, 2)
    assert same(args, [(rows(4)[:2], "mean"), (rows(4)[2:], "mean")])
    assert same(kwargs, [{"y": rows(2)[:1]}, {"y": rows(2)[1:]}])


def test_without_keywords_there_are_as_many_empty_dicts():
    assert split_args_kwargs_into_chunks((rows(4),), None, 2)[1] == [{}, {}]
    assert split_args_kwargs_into_chunks((), {}, 3) == ([(), (), ()], [{}, {}, {}])


@given(calls(TensorChunkSpec, _Replicate))
def test_merge_undoes_split(call):
    args, kwargs, args_spec, kwargs_spec, count = call
    arg_chunks, kwarg_chunks = split_args_kwargs_into_chunks(args, kwargs, count, args_spec, kwargs_spec)
    assert len(arg_chunks) == len(kwarg_chunks) <= count
    assert same(merge_chunks(arg_chunks, args_spec), args)
    assert same(merge_chunks(kwarg_chunks, kwargs_spec), kwargs)


@given(tensors(), st.integers(1, 6))
def test_chunks_are_equal_up_to_one_row_and_there_are_as_many_as_rows_allow(drawn, count):
    tensor, dim = drawn
    chunks, _ = split_args_kwargs_into_chunks((tensor,), {}, count, (TensorChunkSpec(dim),))
    sizes = [chunk.size(dim) for (chunk,) in chunks]
    assert len(sizes) == min(count, tensor.size(dim)) and max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(("of_args", "of_kwargs"), [(6, 2), (2, 6)])
def test_positional_and_keyword_arguments_have_equally_many_chunks(of_args, of_kwargs):
    args, kwargs = split_args_kwargs_into_chunks((rows(of_args),), {"y": rows(of_kwargs)}, 4)
    assert len(args) == len(kwargs) == 2
    assert sum(len(chunk) for (chunk,) in args) == of_args


def test_by_default_tensors_are_cut_and_all_else_is_replicated():
    something, scalar = object(), torch.tensor(3.0)
    args, _ = split_args_kwargs_into_chunks((rows(2), something, scalar, [rows(4), 7]), {}, 2)
    assert [chunk[0].shape for chunk in args] == [(1, 2), (1, 2)]
    assert all(chunk[1] is something and chunk[2] is scalar and chunk[3][1] == 7 for chunk in args)
    assert [chunk[3][0].shape for chunk in args] == [(2, 2), (2, 2)]


@pytest.mark.parametrize("spec", [_Replicate, _Replicate()])
def test_a_replicated_tensor_is_the_same_object_in_every_chunk(spec):
    x = rows(3)
    args, _ = split_args_kwargs_into_chunks((x,), {}, 2, (spec,))
    assert all(chunk is x for (chunk,) in args)


def test_one_spec_holds_for_all_below_it():
    args, _ = split_args_kwargs_into_chunks(([rows(2), {"y": rows(4)}],), {}, 2, (TensorChunkSpec(1),))
    assert [(chunk[0].shape, chunk[1]["y"].shape) for (chunk,) in args] == [((2, 1), (4, 1))] * 2


def test_specs_may_come_as_a_list_and_none_among_them_is_the_default():
    args, _ = split_args_kwargs_into_chunks((rows(2), rows(2), 3), {}, 2, [TensorChunkSpec(1), None, None])
    assert shapes([chunk[:2] for chunk in args]) == [[(2, 1), (1, 2)]] * 2


def test_chunks_of_a_leaf_keep_their_gradients():
    leaf = rows(4).requires_grad_()
    made = leaf * 1
    ((first, _), (second, _)), _ = split_args_kwargs_into_chunks((leaf, made), {}, 2)
    (first.sum() + 2 * second.sum()).backward()
    assert torch.equal(first.grad, torch.ones(2, 2)) and torch.equal(second.grad, torch.full((2, 2), 2.0))
    assert torch.equal(leaf.grad, torch.tensor([[1.0, 1], [1, 1], [2, 2], [2, 2]]))
    ((_, chunk), _), _ = split_args_kwargs_into_chunks((leaf, made), {}, 2)
    assert not chunk.retains_grad


def test_without_gradients_a_leaf_is_cut_all_the_same():
    with torch.no_grad():
        args, _ = split_args_kwargs_into_chunks((rows(4).requires_grad_(),), {}, 2)
    assert not args[0][0].requires_grad


@pytest.mark.parametrize(
    ("args", "spec", "kind", "text"),
    [
        (
            (rows(2), 3),
            (TensorChunkSpec(0),),
            AssertionError,
            r"spec of args is \(\*,\), but args is \(\*, \*\); give a",
        ),
        ((rows(2),), (0,), AssertionError, r"Expected TensorChunkSpec, got <class 'int'> for args\[0\]; pass a Tensor"),
        ((3,), (TensorChunkSpec(0),), ValueError, r"TensorChunkSpec\(0\) and value: 3 .*args\[0\]; give .* _Replicate"),
        (
            (rows(2),),
            (TensorChunkSpec(2),),
            IndexError,
            r"args\[0\] has no dimension 2: .*\(2, 2\); use .* from 0 to 1",
        ),
        ((torch.tensor(1.0),), (TensorChunkSpec(0),), IndexError, r"args\[0\] has no dimension 0: .*spec _Replicate"),
        (([rows(0)],), None, RuntimeError, r"args\[0\]\[0\] has no rows to cut .*\(0, 2\); pass at least one row"),
    ],
)
def test_what_cannot_be_cut(args, spec, kind, text):
    with pytest.raises(kind, match=text) as raised:
        split_args_kwargs_into_chunks(args, {}, 2, spec)
    assert isinstance(raised.value, FunpipeError)


def test_a_keyword_without_a_spec_is_named():
    with pytest.raises(AssertionError, match=r"spec of kwargs is \{'j': \*\}, but kwargs is \{'k': \*\}"):
        split_args_kwargs_into_chunks((), {"k": rows(2)}, 2, None, {"j": TensorChunkSpec(0)})


def test_no_chunk_is_an_error():
    with pytest.raises(RuntimeError, match="number of sections must be larger than 0, got 0; make at least one"):
        split_args_kwargs_into_chunks((rows(2),), {}, 0)


def test_targets_may_be_any_tree():
    target = (rows(4), {"labels": rows(2), "weights": [torch.tensor(2.0), 0.1]})
    first, second = split_targets(target, 2)
    assert same(first, (rows(4)[:2], {"labels": rows(2)[:1], "weights": [torch.tensor(2.0), 0.1]}))
    assert same(merge_chunks([first[0], second[0]]), rows(4))


def test_one_tensor_is_a_target_and_so_is_none():
    assert same(split_targets(rows(4), 2), [rows(4)[:2], rows(4)[2:]])
    assert split_targets(None, 2) == [None, None]


def test_targets_may_have_a_spec():
    first, second = split_targets({"a": rows(2), "b": rows(3)}, 2, {"a": TensorChunkSpec(1), "b": _Replicate})
    assert first["a"].shape == second["a"].shape == (2, 1) and first["b"].shape == second["b"].shape == (3, 2)


def test_a_target_with_too_few_rows_is_an_error():
    with pytest.raises(
        ValueError, match=r"target\[1\] has 3 rows along dimension 0 for 4 microbatches; make at most 3"
    ):
        split_targets((rows(4), rows(3)), 4)
