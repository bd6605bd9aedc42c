from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import funpipe as fp
from funpipe.interop.pipelining import SplitPoint, pipeline
from funpipe.interop.transformers import ModelError, loss_of, split_by_layers
from funpipe.interop.transformers.split_by_layers import _starts
from tests.interop.transformers.small import batch, tagger


def test_equal_layers_are_cut_into_equal_stages():
    model = tagger()
    assert split_by_layers(model, 1).layers == ()
    assert split_by_layers(model, 2).layers == ("layers.2",)
    assert split_by_layers(model, 4).layers == ("layers.1", "layers.2", "layers.3")


@given(st.lists(st.integers(0, 9), min_size=1, max_size=7), st.data())
def test_the_largest_part_is_as_small_as_it_can_be(sizes, data):
    n = data.draw(st.integers(1, len(sizes)))

    def largest(starts):
        ends = [0, *starts, len(sizes)]
        return max(sum(sizes[a:b]) for a, b in zip(ends, ends[1:], strict=False))

    starts = _starts(tuple(map(float, sizes)), n)
    assert len(starts) == n - 1
    assert largest(starts) == min(largest(other) for other in combinations(range(1, len(sizes)), n - 1))


def test_without_a_batch_parameters_weigh():
    wide, narrow = (lambda: nn.Linear(9, 9)), (lambda: nn.Linear(2, 2))
    model = nn.Sequential(nn.Embedding(9, 2), nn.ModuleList([wide(), narrow(), narrow(), narrow()]))
    assert split_by_layers(model, 2).layers == ("1.1",)


def test_with_a_batch_time_weighs_in_the_order_of_the_calls():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))
            self.head = nn.Linear(4, 4000)

        def forward(self, x):
            for layer in reversed(self.layers):
                x = layer(x)
            return {"loss": self.head(x).square().mean()}

    cuts = split_by_layers(Backwards(), 2, {"x": torch.ones(3, 4)})
    assert cuts.layers == ("layers.0",)  # the last to run, and the head with it


def test_it_is_a_cutter_and_a_mapping_to_split_points():
    model, cuts = tagger(), split_by_layers(tagger(), 2)
    assert dict(cuts) == {"layers.2": SplitPoint.BEGINNING} and len(cuts) == 1 and "layers.1" not in cuts
    loss_fn, params, buffers = loss_of(model)
    traced = fp.trace(loss_fn, params, batch(), buffers=buffers)
    assert cuts(traced) == fp.stages.split_at({"layers.2": "beginning"})(traced)
    pipe = pipeline(model, (), {**batch(), "use_cache": False}, split_spec=cuts)
    assert "layers.2.experts.0.weight" in pipe.get_stage_module(1).state_dict() and pipe.num_stages == 2


@pytest.mark.parametrize("n", [0, -1, True, 2.0, "2"])
def test_what_is_no_number_of_stages(n):
    with pytest.raises(ModelError, match=r"split_by_layers got n=.*; pass the number of stages, 1 or more"):
        split_by_layers(tagger(), n)


def test_too_few_layers_name_the_way_out():
    with pytest.raises(
        ModelError, match=r"Tagger has 8 layers in lists \(layers\.0\.experts\.0, \.\.\., .*at most 8, .*balanced\(9\)"
    ):
        split_by_layers(tagger(), 9)
    with pytest.raises(ModelError, match=r"Linear has 0 layers in lists \(none\), and 2 stages.*balanced\(2\)"):
        split_by_layers(nn.Linear(2, 2), 2)
