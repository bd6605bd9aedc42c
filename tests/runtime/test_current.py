"""Parameters on a GPU that is not the current one: everything of their step happens with theirs as the current one.

Without a GPU the choice of one is made to raise, so that a test sees where it would be, and for which.
"""

from dataclasses import replace

import pytest
import torch

import funpipe as fp
from funpipe.runtime.current import on
from tests.api.models import batch_of, loss_fn, params_of, step_of

SECOND = torch.device("cuda", 1)


class Chosen(Exception):
    """A GPU was made the current one."""


@pytest.fixture
def choosing(monkeypatch):
    def choose(device):
        raise Chosen(str(device))

    monkeypatch.setattr(torch.cuda, "device", choose)


@pytest.fixture
def prepared():
    """A step whose state is said to be on the second GPU, and the state."""
    step = step_of()
    state = step.init(params_of(), batch_of())
    engine = step._engine
    engine.model = replace(engine.model, device=SECOND)
    engine.lowered = replace(engine.lowered, origin=replace(engine.lowered.origin, device=SECOND))
    return step, state


def test_a_device_without_a_number_or_none_changes_nothing(choosing):
    with on(torch.device("cpu")), on(None):
        pass


def test_a_gpu_is_chosen_by_its_number(choosing):
    with pytest.raises(Chosen, match="cuda:1"):
        on(SECOND)


def test_tracing(choosing, monkeypatch):
    monkeypatch.setattr("funpipe.runtime.engine._device", lambda setup, params: SECOND)
    with pytest.raises(Chosen, match="cuda:1"):
        step_of().trace(params_of(), batch_of())


def test_the_first_state_is_traced_there_too(choosing, monkeypatch):
    monkeypatch.setattr("funpipe.runtime.engine._device", lambda setup, params: SECOND)
    with pytest.raises(Chosen, match="cuda:1"):
        step_of().init(params_of(), batch_of())


def test_compiling(prepared, choosing):
    with pytest.raises(Chosen, match="cuda:1"):
        prepared[0].compile(batch_of())


def test_running(prepared, choosing):
    step, state = prepared
    device = step._engine.model.device
    step._engine.lowered = replace(
        step._engine.lowered, origin=replace(step._engine.lowered.origin, device=torch.device("cpu"))
    )
    step.compile(batch_of())
    step._engine.model = replace(step._engine.model, device=device)
    with pytest.raises(Chosen, match="cuda:1"):
        step(state, batch_of())


def test_a_batch_of_another_size_is_traced_where_the_state_is(prepared, choosing):
    """Its parameters are stand-ins without a device."""
    with pytest.raises(Chosen, match="cuda:1"):
        prepared[0].compile(batch_of(16))


def test_an_evaluation_is_traced_where_the_state_is(prepared, choosing):
    step, state = prepared
    with pytest.raises(Chosen, match="cuda:1"):
        fp.eval_step(loss_fn, like=step)(state, batch_of())
