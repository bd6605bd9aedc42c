import pytest

from funpipe._errors import TreeError
from funpipe.functional.names import check_names, nearest, quoted


def test_nearest_gives_the_most_alike_first():
    assert nearest("layers.10.weigth", ["head.bias", "layers.1.weight", "layers.10.weight"])[0] == "layers.10.weight"


def test_nearest_of_nothing_alike_is_empty():
    assert nearest("xyz", ["layers.0.weight"]) == []


def test_quoted_counts_what_it_leaves_out():
    assert quoted(["a", "b", "c", "d", "e"]) == "'a', 'b', 'c' and 2 more"


def test_any_order_of_the_same_names_is_right():
    check_names(["a", "b"], ["b", "a"])


def test_an_unknown_name_comes_with_the_nearest():
    with pytest.raises(TreeError, match=r"params: unknown leaf 'weigth'; the nearest names are 'weight'; use one of"):
        check_names(["weight", "bias"], ["weigth", "bias"])


def test_an_unknown_name_like_no_other_comes_with_the_names_there_are():
    with pytest.raises(TreeError, match=r"unknown leaf 'zzz'; the nearest names are 'weight', 'bias'; use one of them"):
        check_names(["weight", "bias"], ["weight", "bias", "zzz"])


def test_a_name_where_none_is_expected():
    with pytest.raises(TreeError, match=r"buffers: unknown leaf 'mean'; no leaf is expected; remove it\."):
        check_names([], ["mean"], what="buffers")


def test_a_missing_name():
    with pytest.raises(TreeError, match=r"params: missing 'bias'; pass a value for each name\."):
        check_names(["weight", "bias"], ["weight"])


def test_a_tied_name_is_told_from_an_unknown_one():
    with pytest.raises(TreeError, match=r"'head' is tied to 'wte' and is one leaf with it; pass it as 'wte' only\."):
        check_names(["wte"], ["wte", "head"], aliases={"head": "wte"})


def test_a_single_tensor_where_a_tree_is_expected():
    with pytest.raises(TreeError, match=r"batch: it is a single tensor, but a tree .* with the leaves 'x', 'y'\."):
        check_names(["x", "y"], [""], what="batch")


@pytest.mark.parametrize(
    ("given", "text"), [(["x"], "it has a leaf 'x', but a single"), ([], "it has no leaf, but one")]
)
def test_a_tree_where_a_single_tensor_is_expected(given, text):
    with pytest.raises(TreeError, match=f"batch: {text} tensor was expected; pass that tensor"):
        check_names([""], given, what="batch")
