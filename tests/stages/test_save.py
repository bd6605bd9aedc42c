"""The graph of a forward that saves other values."""

import torch

from funpipe.functional import Out, cat
from funpipe.stages import partition, rematerialise
from funpipe.tracing import trace
from tests.stages.recomputed import computed_again
from tests.stages.region_values import run_regions

X = torch.linspace(0, 1, 12).view(4, 3)
WEIGHT = {"a": torch.ones(3, 3)}


def test_what_the_forward_only_saved_is_not_computed_there_any_more():
    """The mask of a relu is made by the backward from its output; a comparison that was saved leaves the forward."""

    def loss(p, x):
        h = x @ p["a"]
        return torch.where(h > 0, h, h * 2).sum()

    (before,) = partition(trace(loss, WEIGHT, X), ())
    (stage,) = rematerialise((before,), "full")
    assert "gt" in before.F.outputs and stage.F.outputs == ("sum_1",)
    assert computed_again(stage)[-1] == "gt"


def test_a_result_that_is_a_view_of_what_is_saved_now():
    """Of three values computed from one base the base is saved in their place: two outputs must not share memory."""

    def loss(p, x):
        h = x @ p["a"]
        return Out((torch.exp(h) + torch.tanh(h) + torch.sigmoid(h)).sum(), aux={"first": cat(h[:1].detach())})

    before = partition(trace(loss, WEIGHT, X), ())
    (stage,) = stages = rematerialise(before, 48)
    assert "mm" in stage.F.outputs and "mm" not in before[0].F.outputs
    leaves = {"param.a": WEIGHT["a"], "batch.": X}
    found, wanted = run_regions(stages, leaves), run_regions(before, leaves)
    assert all(torch.equal(found[n], wanted[n]) for n in found.keys() & wanted.keys())
