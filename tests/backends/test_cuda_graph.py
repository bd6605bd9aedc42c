"""Which steps become CUDA graphs, and how one is recorded; without a GPU, torch's part of it is a stand-in."""

from contextlib import contextmanager, nullcontext

import pytest
import torch

from funpipe import optim
from funpipe._errors import CompileError
from funpipe.backends import Request
from funpipe.backends.captured import Captured
from funpipe.backends.cuda_graph import check_possible, graphed, record
from funpipe.passes import optimize
from funpipe.programs import lower
from funpipe.schedules import OneFOneB, merge
from tests.api.models import batch_of, params_of, step_of
from tests.backends.ranks import example_of
from tests.backends.uncompiled import uncompiled_parts
from tests.programs.models import chain, programs_of, stages_of, traced_of

ADAMW = optim.adamw(1e-2)


@pytest.fixture(scope="module")
def alone():
    traced = traced_of(chain)
    programs = optimize(lower(traced, stages_of(traced, 2), merge(OneFOneB().table(2, 2)), optimizer=ADAMW))
    return uncompiled_parts(programs, Request(0, 1), ADAMW, example_of(programs, 0))


@pytest.fixture(scope="module")
def one_of_two():
    programs = optimize(programs_of(chain, 2, 2, optimizer=ADAMW))
    return uncompiled_parts(programs, Request(0, 1), ADAMW, example_of(programs, 0))


def test_a_step_on_a_gpu_that_exchanges_no_messages_becomes_one(alone):
    for wanted in ("auto", True):
        made = graphed(alone, wanted, "cuda", writes=True)
        assert isinstance(made, Captured) and made.step is alone
        assert made.required is (wanted is True)


def test_no_other_step_does(alone, one_of_two):
    assert graphed(alone, False, "cuda", writes=True) is alone
    assert graphed(alone, "auto", "cpu", writes=True) is alone
    assert graphed(one_of_two, "auto", "cuda", writes=True) is one_of_two


def test_wanted_where_it_cannot_be_it_is_an_error(alone, one_of_two):
    text = "cuda_graph=True, but the state of rank 0 is on the device 'cpu', not on a GPU: leave cuda_graph='auto'"
    with pytest.raises(CompileError, match=text):
        check_possible(alone.program, True, "cpu")
    with pytest.raises(CompileError, match="rank 0 exchanges messages with others within the step: leave"):
        check_possible(one_of_two.program, True, "cuda")
    check_possible(one_of_two.program, "auto", "cuda")


def test_a_train_step_passes_it_on():
    step = step_of(backend="step", cuda_graph=True)
    state = step.init(params_of(), batch_of())
    with pytest.raises(CompileError, match="cuda_graph=True, but the state of rank 0 is on the device 'cpu'"):
        step(state, batch_of())


def test_words_that_mean_nothing_are_refused():
    with pytest.raises(TypeError, match="cuda_graph is 'yes'; use one of 'auto', True, False"):
        step_of(cuda_graph="yes")
    for number in (0, 1):
        with pytest.raises(TypeError, match=f"cuda_graph is {number}; use one of 'auto', True, False"):
            step_of(cuda_graph=number)
    with pytest.raises(TypeError, match="cuda_graph=True, but backend='interpret' walks .* use backend=\"step\""):
        step_of(backend="interpret", cuda_graph=True)


def test_a_recording_has_a_stream_of_the_current_device_and_lets_other_threads_go_on(monkeypatch):
    entered = []

    class Graph:
        def replay(self):
            entered.append("replayed")

    @contextmanager
    def capturing(graph, **options):
        entered.append((type(graph), options))
        yield
        entered.append("ended")

    @contextmanager
    def within(stream):
        yield
        entered.append(stream)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capturing)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: "a new stream")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: "the stream before")
    monkeypatch.setattr(torch.cuda, "stream", within)
    replay, results = record(lambda: {"loss": entered.append("run") or torch.ones(())})
    replay()
    options = {"stream": "a new stream", "capture_error_mode": "thread_local"}
    assert entered == [(Graph, options), "run", "ended", "the stream before", "replayed"] and list(results) == ["loss"]


def test_a_recording_that_is_broken_off_says_why(monkeypatch):
    """torch raises another error when it ends one that is broken."""

    @contextmanager
    def capturing(graph, **options):
        try:
            yield
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    def waits():
        raise RuntimeError("operation not permitted when stream is capturing")

    for name, stands_for in (("CUDAGraph", object), ("Stream", lambda: None), ("current_stream", lambda: None)):
        monkeypatch.setattr(torch.cuda, name, stands_for)
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    monkeypatch.setattr(torch.cuda, "graph", capturing)
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        record(waits)
    with pytest.raises(RuntimeError, match="due to a previous error"):
        record(dict)
