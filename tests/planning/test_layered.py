"""What stages of many layers take, told from a trace of five."""

from functools import cache

import pytest

import funpipe as fp
from funpipe._errors import PlanError, StageError
from funpipe.optim import adamw
from funpipe.planning import AtLayers
from funpipe.planning.layered import CutAtLayers, share
from funpipe.planning.load import loads, numbers
from funpipe.planning.source import Source
from tests.planning.models import chain, gpt

COSTS = fp.stages.Roofline(1e9, 1e9, 1e8)


@cache
def source(model, layers):
    """Traced once for each size."""
    return Source(*model(layers), None, 0, adamw(), COSTS)


@cache
def few(model, layers=9):
    """A model of many layers, from a trace of five."""
    return CutAtLayers(source(model, 5), layers)


def real(model, cutter, remat):
    """What the stages of nine traced layers take."""
    whole = source(model, 9)
    traced, _ = whole.traced(2)
    stages = fp.stages.rematerialise(fp.stages.partition(traced, cutter(traced)), remat)
    return loads(traced, stages, COSTS, whole.slots)


@pytest.mark.parametrize("remat", ["none", "full"])
@pytest.mark.parametrize("num_stages", [2, 3, 5, 9])
@pytest.mark.parametrize("model", [chain, gpt])
def test_it_equals_the_partition_of_the_whole_model(model, num_stages, remat):
    cut = few(model).cut(2, num_stages, remat)
    for told, found in zip(cut.loads, real(model, cut.cutter, remat), strict=True):
        assert numbers(told) == pytest.approx(numbers(found), rel=1e-9)


@pytest.mark.parametrize("remat", ["none", "full"])
def test_so_does_the_whole_as_one_stage(remat):
    (told,) = few(gpt).cut(2, 1, remat).loads
    (found,) = real(gpt, AtLayers((9,)), remat)
    for name in ("F", "B", "owned", "slots", "forward", "backward"):
        assert getattr(told, name) == pytest.approx(getattr(found, name), rel=0.02), name
    assert told.saved >= found.saved
    assert told.params >= found.params


def test_the_layers_are_shared_as_fairly_as_can_be():
    kinds = few(gpt, 10).kinds(2, "none")

    def slowest(counts):
        stages = [kinds.at(i, len(counts)).of(n) for i, n in enumerate(counts)]
        return max(s.F + s.B for s in stages)

    best = min(slowest((a, b, 10 - a - b)) for a in range(10) for b in range(1, 11 - a))
    assert slowest(share(kinds, 10, 3)) == pytest.approx(best)


def test_more_stages_than_layers_is_an_error():
    model = few(gpt, 6)
    assert model.most_stages(2) == 8
    assert len(model.cut(2, 8, "none").loads) == 8
    with pytest.raises(StageError, match=r"9 stages are more than 6 layers and their ends give; use at most 8"):
        model.cut(2, 9, "none")


def test_a_trace_of_too_few_layers_is_an_error():
    with pytest.raises(PlanError, match=r"layers=9, but 3 equal layers were found.*plan a model of 5 to 9 of them"):
        CutAtLayers(source(chain, 3), 9).cut(2, 2, "none")


def test_a_budget_is_for_a_stage_and_not_for_layers():
    with pytest.raises(PlanError, match=r"remat=100 with layers=9; use 'none' and 'full', or leave layers out"):
        few(chain).cut(2, 2, 100)
