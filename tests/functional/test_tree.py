from collections import OrderedDict, namedtuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from funpipe._errors import TreeError
from funpipe._typing import TensorType
from funpipe.functional.tree import check_same, named_leaves, types_of, unflatten_named

Point = namedtuple("Point", ["x", "y"])

trees = st.recursive(
    st.integers(0, 3).map(lambda n: torch.arange(n)) | st.none(),
    lambda children: (
        st.lists(children, max_size=3)
        | st.lists(children, max_size=3).map(tuple)
        | st.dictionaries(st.sampled_from("abc"), children)
        | st.tuples(children, children).map(lambda pair: Point(*pair))
    ),
    max_leaves=8,
)


def test_names_are_paths_in_tree_order():
    tree = {"b": [torch.ones(1), {"z": torch.ones(2), "y": torch.ones(3)}], "a": Point(torch.ones(4), torch.ones(5))}
    named, _ = named_leaves(tree)
    assert [(name, len(leaf)) for name, leaf in named.items()] == [
        ("a.0", 4), ("a.1", 5), ("b.0", 1), ("b.1.y", 3), ("b.1.z", 2)
    ]  # fmt: skip


def test_the_order_of_a_dict_is_not_that_of_its_making():
    one, other = {"b": torch.ones(1), "a": torch.ones(2)}, {"a": torch.ones(2), "b": torch.ones(1)}
    assert list(named_leaves(one)[0]) == list(named_leaves(other)[0]) == ["a", "b"]


def test_an_ordered_dict_keeps_its_order():
    assert list(named_leaves(OrderedDict(b=torch.ones(1), a=torch.ones(1)))[0]) == ["b", "a"]


def test_a_tree_that_is_one_leaf_has_the_empty_name():
    assert list(named_leaves(torch.ones(1))[0]) == [""]


@given(trees)
def test_unflatten_undoes_named_leaves(tree):
    named, spec = named_leaves(tree)
    again, spec_again = named_leaves(unflatten_named(spec, dict(reversed(named.items()))))
    assert spec_again == spec
    assert all(again[name] is leaf for name, leaf in named.items())


@given(trees)
def test_every_tree_is_the_same_as_itself(tree):
    check_same(types_of(named_leaves(tree)[0]), tree)


def test_a_leaf_that_is_no_tensor_is_named():
    with pytest.raises(TreeError, match=r"params: leaf 'a\.1' is of type float, not a tensor; make it a tensor"):
        named_leaves({"a": [torch.ones(1), 2.0]}, what="params")


def test_a_root_that_is_no_tensor():
    with pytest.raises(TreeError, match=r"batch: the only leaf is of type str.*turn it into a dict, a list or a tuple"):
        named_leaves("text", what="batch")


def test_two_leaves_of_one_name():
    with pytest.raises(TreeError, match=r"two leaves have the name 'a\.b'; rename one of their keys\."):
        named_leaves({"a.b": torch.ones(1), "a": {"b": torch.ones(1)}})


def test_unflatten_names_the_missing_leaf():
    _, spec = named_leaves({"a": torch.ones(1), "b": torch.ones(1)})
    with pytest.raises(TreeError, match=r"missing 'b'"):
        unflatten_named(spec, {"a": 1})


FLOATS = TensorType((2, 3), (3, 1), torch.float32)


@pytest.mark.parametrize("leaf", [torch.ones(3, 2), torch.ones(2, 3, dtype=torch.float64), torch.ones(6)])
def test_another_shape_or_dtype_is_named(leaf):
    with pytest.raises(TreeError) as error:
        check_same({"w": FLOATS}, {"w": leaf})
    assert f"params: leaf 'w' is {TensorType.of(leaf)}, but float32[2,3] was expected; pass a leaf" in str(error.value)


def test_strides_and_device_may_differ():
    check_same({"w": FLOATS}, {"w": torch.ones(3, 2, device="meta").t()})


def test_check_same_names_unknown_and_missing_leaves():
    with pytest.raises(TreeError, match=r"batch: unknown leaf 'v'; the nearest names are 'w'"):
        check_same({"w": FLOATS}, {"v": torch.ones(2, 3)}, what="batch")
    with pytest.raises(TreeError, match=r"batch: missing 'w'"):
        check_same({"w": FLOATS}, {}, what="batch")
