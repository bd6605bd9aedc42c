"""A profiled step: what it returns, and what it does to the state."""

import json
from itertools import pairwise

import pytest
import torch

import funpipe as fp
from funpipe.backends.walk import Walk
from tests.api import profiling
from tests.api.models import batch_of, batches, params_of, same_bits, step_of, trained


@pytest.fixture(scope="module")
def compiled():
    """Compiles: two steps, the second one profiled: `(step, state, losses, profile)`."""
    step = step_of(backend="step", stages=2)
    state = step.init(params_of(), batch_of())
    state, first = step(state, batch_of())
    state, second, profile = step.profile(state, batch_of(seed=1))
    return step, state, [first["loss"], second["loss"]], profile


def test_a_profiled_step_is_a_step_to_the_bit(compiled):
    step, state, losses, _ = compiled
    wanted, wanted_losses = trained(step, params_of(), batches(2))
    assert same_bits(losses, wanted_losses)
    assert same_bits(step.gather(state)[0], step.gather(wanted)[0])
    assert state.step == 2


def test_its_events_follow_one_another_without_a_gap(compiled):
    events = compiled[3].events
    assert events[0].start == 0 and (events[0].kind, events[-1].kind) == ("before", "after")
    assert all(one.end == other.start and one.duration >= 0 for one, other in pairwise(events))


def test_every_task_is_there_once(compiled):
    step, _, _, profile = compiled
    tasks = [(e.kind, e.stage, e.microbatch) for e in profile.events if len(e.kind) == 1]
    assert tasks == [(t.kind, t.stage, t.microbatch) for t in step.lowered.schedule.order(0)]


def test_its_shares_sum_to_one(compiled):
    assert sum(compiled[3].shares()[0].values()) == pytest.approx(1.0)


@pytest.mark.parametrize("profile_by", ["step", "ladder"])
def test_the_interpreters_instructions_are_timed_too(profile_by):
    step = step_of()
    state = step.init(params_of(), batch_of())
    profile = step.profile if profile_by == "step" else step.trace(params_of(), batch_of()).lower().compile().profile
    state, metrics, found = profile(state, batch_of())
    _, wanted = trained(step_of(), params_of(), batches(1))
    assert torch.equal(metrics["loss"], wanted[0])
    assert len(found.events) == len(step.lowered.programs[0].instructions) + 2


def test_the_state_is_consumed():
    step = step_of()
    state = step.init(params_of(), batch_of())
    step.profile(state, batch_of())
    with pytest.raises(fp.FunpipeError, match="this state was consumed"):
        step.profile(state, batch_of())


def test_an_error_in_the_middle_leaves_the_state_unfinished(monkeypatch):
    step = step_of()
    state = step.init(params_of(), batch_of())
    step.compile(batch_of())
    monkeypatch.setattr(Walk, "_step", lambda self, instruction, env: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        step.profile(state, batch_of())
    monkeypatch.undo()
    with pytest.raises(fp.FunpipeError, match="the step that used this state raised"):
        step(state, batch_of())


def test_another_size_is_compiled_by_the_step_and_refused_by_what_is_compiled():
    step = step_of()
    state = step.init(params_of(), batch_of())
    compiled = step.lowered.compile()
    with pytest.raises(fp.FunpipeError, match="but the step was compiled for .*use step.profile"):
        compiled.profile(state, batch_of(16))
    state, _, profile = step.profile(state, batch_of(16))
    assert profile.events


def test_what_is_no_state_is_refused():
    step = step_of()
    state = step.init(params_of(), batch_of())
    for profile in (step.profile, step.lowered.compile().profile):
        with pytest.raises(TypeError, match="the state is of type dict"):
            profile({}, batch_of())
    assert step.profile(state, batch_of())


def test_two_ranks_get_the_profile_of_both(tmp_path):
    """Compiles, in two processes."""
    one, other = fp.launch(profiling.profiled, 2, tmp_path, timeout=240)
    assert one["profile"] == other["profile"]
    assert same_bits(one["losses"], other["losses"])
    _, wanted = trained(step_of(), params_of(), batches(3))
    torch.testing.assert_close(one["losses"], wanted, rtol=1e-5, atol=0)
    profile = one["profile"]
    assert all(sum(shares.values()) == pytest.approx(1.0) for shares in profile.shares())
    assert {e.kind for e in profile.of(0)} >= {"F", "B", "send", "post_recv", "wait_recv", "wait_send", "update"}
    sends = {e.message: e for e in profile.events if e.kind == "send"}
    waits = {e.message: e for e in profile.events if e.kind == "wait_recv"}
    assert len(sends) == 8 and sends.keys() == waits.keys()
    assert all(sends[m].start < waits[m].end for m in sends)  # no message comes before it was sent
    found = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert {e["pid"] for e in found if e["ph"] == "X"} == {0, 1}
    assert sum(e["ph"] == "s" for e in found) == 8
