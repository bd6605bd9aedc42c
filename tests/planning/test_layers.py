"""Repeated layers are found in the graph, and cut between."""

import pytest

import funpipe as fp
from funpipe._errors import StageError
from funpipe.planning import AtLayers
from funpipe.planning.layers import layer_ends
from tests.planning.models import chain, gpt


@pytest.mark.parametrize("blocks", [4, 7])
def test_the_blocks_of_a_transformer_are_found(blocks):
    traced = fp.trace(*gpt(blocks))
    ends = layer_ends(traced)
    assert len(ends) == blocks + 1
    for index, (low, high) in enumerate(zip(ends, ends[1:], strict=False)):
        paths = {str(n.meta["path"]) for n in traced.forward[low:high]}
        assert {p.split(".")[1] for p in paths if p.startswith("layers.")} == {str(index)}


def test_different_layers_are_no_repetition():
    loss, params, x = chain(3)
    assert layer_ends(fp.trace(lambda p, x: loss(p[:1], x).exp(), params, x)) == ()


def test_stages_have_their_layers():
    loss, params, batch = gpt(4)
    traced = fp.trace(loss, params, batch)
    stages = fp.stages.partition(traced, AtLayers((1, 3))(traced))
    assert "layers.0.mlp.0.weight" in stages[0].params
    assert not any(n.startswith("layers.1.") for n in stages[0].params)
    assert {n.split(".")[1] for n in stages[1].params if n.startswith("layers")} == {"1", "2", "3"}


def test_a_cut_for_another_number_of_layers_is_an_error():
    with pytest.raises(StageError, match=r"the cut is for 5 equal layers, but 4 were found.*plan again"):
        AtLayers((2, 3))(fp.trace(*gpt(4)))
