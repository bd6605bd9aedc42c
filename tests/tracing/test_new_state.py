import pytest
import torch

from funpipe._errors import TreeError
from funpipe.functional.tree import named_leaves
from funpipe.tracing.new_state import check_new_state

OLD = {"w": torch.ones(2, 3), "n": [torch.tensor(0), torch.tensor(1)]}


def raised(new):
    leaves, spec = named_leaves(OLD)
    with pytest.raises(TreeError) as caught:
        check_new_state(new, spec, leaves)
    return str(caught.value)


def test_leaves_come_in_the_order_of_the_old_state():
    leaves, spec = named_leaves(OLD)
    assert list(check_new_state({"w": torch.zeros(2, 3), "n": OLD["n"]}, spec, leaves)) == ["n.0", "n.1", "w"]


def test_a_leaf_of_another_dtype():
    text = raised({**OLD, "n": [torch.tensor(0), torch.tensor(1.0)]})
    assert text == (
        "the new state: leaf 'n.1' is float32[], and the step was given int64[], so no next step could take it: return "
        "it .to(torch.int64)."
    )


def test_a_leaf_of_another_shape():
    assert "leaf 'w' is float32[3,2], and the step was given float32[2,3]" in raised({**OLD, "w": torch.ones(3, 2)})
    assert raised({**OLD, "w": torch.ones(())}).endswith("return one of shape (2, 3).")


def test_a_missing_and_an_unknown_leaf():
    assert "the new state: missing 'w'" in raised({"n": OLD["n"]})
    assert "the new state: unknown leaf 'ww'; the nearest names are 'w'" in raised({**OLD, "ww": torch.ones(1)})


def test_another_container():
    text = raised({"w": OLD["w"], "n": tuple(OLD["n"])})
    assert text == (
        "the new state is the tree {'w': *, 'n': (*, *)}, and the one that the step was given is "
        "{'w': *, 'n': [*, *]}: build it of the same containers, as with optree.tree_map."
    )


def test_the_order_of_keys_is_free():
    leaves, spec = named_leaves(OLD)
    check_new_state({"n": OLD["n"], "w": OLD["w"]}, spec, leaves)
