import pytest
import torch

from funpipe._errors import FunpipeError, FunpipeTypeError
from funpipe.optim import adam, apply, freeze, groups, multi_transform, sgd

LEAVES = {"body.0.bias": (2,), "body.0.weight": (2, 2), "body.1.weight": (2, 2), "head.weight": (2, 2)}


def leaves():
    return {name: torch.full(shape, float(i + 1)) for i, (name, shape) in enumerate(LEAVES.items())}


def moved(labels, **optimizers):
    """For each leaf how far a gradient of one moves it."""
    optimizer = multi_transform(optimizers or {"slow": sgd(0.5), "fast": sgd(1.0)}, labels)
    params = leaves()
    grads = {name: torch.ones_like(leaf) for name, leaf in params.items()}
    new, _ = apply(optimizer, params, grads, optimizer.init(params), torch.tensor(0))
    return [float((params[name] - new[name]).max()) for name in LEAVES]


@pytest.mark.parametrize(
    "labels",
    [
        {"body": {"0": {"bias": "freeze", "weight": "slow"}, "1": "slow"}, "head": {"weight": "fast"}},
        {"body": [{"bias": "freeze", "weight": "slow"}, {"weight": "slow"}], "head.weight": "fast"},
        {"*.bias": "freeze", "body": "slow", "*": "fast"},
        {"head.weight": "fast", "*.weight": "slow", "*": "freeze"},
        lambda name, leaf: "freeze" if leaf.dim() == 1 else "fast" if name.startswith("head") else "slow",
    ],
    ids=["tree", "list", "patterns", "name first", "function"],
)
def test_labels_are_a_tree_or_patterns_or_a_function(labels):
    assert moved(labels) == [0.0, 0.5, 0.5, 1.0]


def test_the_first_pattern_counts():
    assert moved({"body.0": "slow", "body": "fast", "*": "slow"}) == [0.5, 0.5, 1.0, 0.5]


def test_frozen_leaves_have_no_slots():
    optimizer = multi_transform({"all": adam()}, {"body": "freeze", "*": "all"})
    assert {slot: list(part) for slot, part in optimizer.init(leaves()).items()} == {
        "m": ["head.weight"],
        "v": ["head.weight"],
    }


def test_none_freezes_and_a_label_may_be_taken():
    assert moved({"body": "still", "*": "fast"}, still=None, fast=sgd(1.0)) == [0.0, 0.0, 0.0, 1.0]
    assert moved({"*": "freeze"}, freeze=sgd(1.0)) == [1.0, 1.0, 1.0, 1.0]


def test_it_is_groups():
    labels = lambda name, leaf: "all"  # noqa: E731
    parts = {"all": sgd(0.1), "freeze": freeze()}
    assert str(multi_transform({"all": sgd(0.1)}, labels)) == str(groups(parts, labels))


def test_a_learning_rate_from_outside_leaves_frozen_leaves_alone():
    optimizer, params = multi_transform({"all": sgd(0.1)}, {"body": "freeze", "*": "all"}), leaves()
    new, _ = apply(optimizer, params, params, {}, torch.tensor(0), lr=torch.tensor(1.0))
    assert [bool((new[name] == params[name]).all()) for name in LEAVES] == [True, True, True, False]


def test_a_leaf_without_a_label_is_named():
    with pytest.raises(FunpipeError, match=r"leaf 'head\.weight' has no label: the labels are for \['body'\].*\"\*\""):
        moved({"body": "slow"})


def test_an_unknown_label_is_named():
    with pytest.raises(FunpipeError, match=r"label of leaf 'body\.0\.bias' is 'medium'"):
        moved({"*": "medium"})


def test_labels_of_another_kind_are_refused():
    with pytest.raises(FunpipeTypeError, match=r"labels is of type str; pass a tree of labels"):
        multi_transform({"all": sgd(0.1)}, "all")


def test_no_optimizers_are_refused():
    with pytest.raises(FunpipeError, match=r"has no groups"):
        multi_transform({}, {"*": "freeze"})
