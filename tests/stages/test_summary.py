import torch
from torch import nn

from funpipe.functional import functionalize
from funpipe.stages import partition, split_at
from funpipe.stages.summary import crossings, summaries
from funpipe.tracing import trace


def cut_model():
    torch.manual_seed(0)
    block = lambda: nn.Sequential(nn.Linear(4, 4), nn.Tanh())  # noqa: E731
    model = nn.Sequential(block(), block(), nn.Linear(4, 1))
    apply, params, _ = functionalize(model)
    traced = trace(lambda p, x: apply(p, {}, x)[0].square().mean(), params, torch.ones(8, 4))
    return traced, partition(traced, split_at({"1.1": "beginning"})(traced))


def test_a_module_in_one_stage_stands_for_what_is_in_it():
    traced, stages = cut_model()
    assert [s.modules for s in summaries(traced, stages)] == [("0", "1.0"), ("1.1", "2")]


def test_every_parameter_lives_on_one_stage():
    traced, stages = cut_model()
    found = summaries(traced, stages)
    assert sum(s.leaves for s in found) == len(traced.params)
    assert [s.numbers for s in found] == [40, 5]
    assert [s.nbytes for s in found] == [160, 20]


def test_what_crosses_has_the_place_where_it_is_made():
    traced, stages = cut_model()
    forward, *gradients = crossings(traced, stages)
    assert (forward.maker, forward.readers, forward.module, forward.gradient) == (0, (1,), "1.0", False)
    assert forward.source.startswith(__file__)
    assert forward.nbytes == gradients[0].nbytes == 8 * 4 * 4
    assert {(g.maker, g.readers, g.gradient, g.skips) for g in gradients} == {(1, (0,), True, 0)}
