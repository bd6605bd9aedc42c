"""The first plans are those that simulating every candidate would put first."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import funpipe as fp
from funpipe._errors import ScheduleError, StageError
from funpipe.optim import adamw
from funpipe.planning.candidate import Candidate, Dropped, Space
from funpipe.planning.defaults import SCHEDULES
from funpipe.planning.layered import CutAtLayers
from funpipe.planning.model import CutAnywhere
from funpipe.planning.search import Search
from funpipe.planning.source import Source
from funpipe.schedules import OneFOneB
from tests.planning.models import chain, cluster

ALL = Space(4, 8, SCHEDULES, ("none", "full"), (0, 1, 3))

SOURCE = Source(*chain(6), None, 0, adamw(), fp.stages.Roofline(1e9, 1e9, 1e8))
MODELS = {
    "anywhere": CutAnywhere(SOURCE),
    "at layers": CutAtLayers(Source(*chain(5), None, 0, adamw(), fp.stages.Roofline(1e9, 1e9, 1e8)), 9),
}


def search(model, on):
    return Search(model, model.source, on)


def by_force(model, space, on):
    """The times of all candidates that fit, ascending; each is simulated."""
    one, times = search(model, on), []
    for candidate in space.candidates():
        try:
            made = one.predict(candidate) if isinstance(candidate, Candidate) else None
        except (ScheduleError, StageError):
            continue
        if made is not None and max(made.memory) <= on.memory:
            times.append(made.seconds)
    return sorted(times)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("memory", [1.1e5, 3e5])
def test_a_plan_is_what_brute_force_finds(kind, memory):
    on = cluster(4, memory=memory)
    times = by_force(MODELS[kind], ALL, on)
    found = search(MODELS[kind], on).run(ALL.candidates(), 5).found
    assert [f.prediction.seconds for f in found] == pytest.approx(times[:5], rel=1e-12)


@settings(max_examples=12, deadline=None)
@given(
    memory=st.floats(5e4, 5e5),
    flops=st.floats(1e8, 1e11),
    link=st.floats(1e6, 1e10),
    latency=st.floats(0, 1e-4),
    overhead=st.floats(0, 1e-3),
)
def test_whatever_the_cluster_is(memory, flops, link, latency, overhead):
    links = fp.planning.Link(link, latency)
    on = cluster(4, memory=memory, flops=flops, links=links, overhead=overhead)
    space = Space(4, 8, SCHEDULES, ("none", "full"), (0, 2), rows=(1, 2, 4))
    times = by_force(MODELS["anywhere"], space, on)
    found = search(MODELS["anywhere"], on).run(space.candidates(), 3).found
    assert [f.prediction.seconds for f in found] == pytest.approx(times[:3], rel=1e-12)


def test_every_candidate_is_found_dropped_or_slower():
    on = cluster(4, memory=1.2e5)
    outcome = search(MODELS["anywhere"], on).run(ALL.candidates(), 5)
    assert len(outcome.found) + len(outcome.dropped) + outcome.slower == len(list(ALL.candidates()))
    assert all(isinstance(d, Dropped) and d.reason for d in outcome.dropped)


def test_few_of_many_candidates_are_simulated(monkeypatch):
    simulated = []
    before = Search.predict
    monkeypatch.setattr(Search, "predict", lambda self, c: simulated.append(c) or before(self, c))
    assert search(MODELS["anywhere"], cluster(4)).run(ALL.candidates(), 1).found
    assert len(simulated) < len(list(ALL.candidates())) / 4


def test_what_falls_out_says_what_it_needs():
    outcome = search(MODELS["anywhere"], cluster(4, memory=1.05e5)).run(ALL.candidates(), 5)
    short = [d for d in outcome.dropped if d.nbytes is not None]
    assert short
    assert all(d.nbytes > 1.05e5 for d in short)
    assert any("kB on rank" in d.reason and "of 105 kB" in d.reason for d in short)


def test_schedules_that_do_not_exist_fall_out_with_their_own_words():
    outcome = search(MODELS["anywhere"], cluster(4)).run(ALL.candidates(), 1000)
    assert any("ZBV(): num_microbatches=4 is below 7" in d.reason for d in outcome.dropped)
    assert any("stages are more than the 14 that the model can be cut into" in d.reason for d in outcome.dropped)


def grows_from_its_parameters(params, x):
    """A weight that is made of another takes the same for any microbatch, and the wide layers more for more rows."""
    first = params[0]
    for _ in range(8):
        first = torch.tanh(first @ params[0])
    for w in (first, *params[1:]):
        x = torch.tanh(x @ w)
    return x.square().mean()


def test_what_needs_less_memory_with_more_rows_is_found():
    shapes = ((64, 64), (64, 256), (256, 256), (256, 256), (256, 64))
    params, batch = [torch.empty(s, device="meta") for s in shapes], torch.empty(4, 64, device="meta")
    source = Source(grows_from_its_parameters, params, batch, None, 0, adamw(), fp.stages.Roofline(1e9, 1e9, 1e12))
    space = Space(2, 16, (OneFOneB(),), ("none",), (0,), pp=(2,))
    loose = cluster(2, memory=1e30)
    one = search(CutAnywhere(source), loose)
    needs = {c.rows: max(one.predict(c).memory) for c in space.candidates() if isinstance(c, Candidate)}
    assert needs[16] < min(n for rows, n in needs.items() if rows < 16)
    (only,) = search(CutAnywhere(source), cluster(2, memory=needs[16])).run(space.candidates(), 5).found
    assert only.candidate.rows == 16
