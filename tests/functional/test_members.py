import pytest
import torch

import funpipe as fp
from funpipe._errors import TreeError


def test_stacking_and_taking_apart():
    trees = [{"a": [torch.ones(2) * i], "b": torch.tensor(float(i))} for i in range(3)]
    stacked = fp.stack(trees)
    assert stacked["a"][0].shape == (3, 2) and stacked["b"].shape == (3,)
    assert fp.unstack(stacked)[2]["a"][0].tolist() == [2.0, 2.0]


def test_a_stacked_leaf_is_trained_where_the_first_one_is():
    trees = [{"w": torch.ones(1, requires_grad=True), "f": torch.ones(1)} for _ in range(2)]
    stacked = fp.stack(trees)
    assert stacked["w"].requires_grad and stacked["w"].is_leaf and not stacked["f"].requires_grad


@pytest.mark.parametrize(
    ("trees", "text"),
    [
        ([], r"fp\.stack got no trees"),
        ([{"w": torch.ones(2)}, {"v": torch.ones(2)}], "tree 1: unknown leaf 'v'"),
        ([{"w": torch.ones(2)}, {"w": torch.ones(3)}], r"tree 1: leaf 'w' is float32\[3\], but float32\[2\]"),
    ],
)
def test_trees_that_do_not_stack(trees, text):
    with pytest.raises(TreeError, match=text):
        fp.stack(trees)
