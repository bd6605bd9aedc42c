"""Frozen subtrees: no gradient, no slots, no update."""

import pytest
import torch

import funpipe as fp
from funpipe._errors import TreeError


def params():
    return {"body": {"w": torch.full((3, 3), 0.5), "b": torch.zeros(3)}, "head": torch.ones(3, 1)}


def loss_fn(params, x):
    return (torch.tanh(x @ params["body"]["w"] + params["body"]["b"]) @ params["head"]).square().mean()


def trained(tree):
    named, _ = fp.functional.named_leaves(tree)
    return [name for name, leaf in named.items() if leaf.requires_grad]


def test_all_is_frozen_but_what_is_named():
    assert trained(fp.freeze(params(), but="head")) == ["head"]
    assert trained(fp.freeze(params(), "body")) == ["head"]
    assert trained(fp.freeze(params(), "body", but="*.b")) == ["body.b", "head"]


def test_the_tree_that_is_given_is_not_changed_and_its_memory_is_shared():
    given = params()
    frozen = fp.freeze(given, "body")
    assert trained(given) == [] and frozen["head"].data_ptr() == given["head"].data_ptr()


def test_integers_are_never_trained():
    tree = {"w": torch.ones(2), "n": torch.tensor([1])}
    assert trained(fp.freeze(tree, "w", but="w")) == ["w"]


@pytest.mark.parametrize("stages", [1, 2])
def test_a_step_moves_only_what_is_trained(stages):
    step = fp.train_step(loss_fn, fp.optim.adamw(0.1), stages=stages, num_microbatches=2, backend="interpret")
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    state = step.init(fp.freeze(params(), "body"), x)
    assert [b for b in step.lowered.all.layout.buckets if any(s.leaf.startswith("body") for s in b.slots)] == []
    state, _ = step(state, x)
    after = step.gather(state)[0]
    assert torch.equal(after["body"]["w"], params()["body"]["w"]) and not torch.equal(after["head"], params()["head"])


def test_a_pattern_that_matches_nothing_is_an_error():
    with pytest.raises(TreeError, match=r"freeze: 'bodi' matches no leaf.*the nearest are 'body'"):
        fp.freeze(params(), "bodi")


def test_freezing_everything_is_an_error():
    with pytest.raises(TreeError, match=r"freeze: '\*' leaves nothing to train; say what is trained"):
        fp.freeze(params())
