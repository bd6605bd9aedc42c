"""Which steps become CUDA graphs, and how one is recorded; without a GPU, torch's part of it is a stand-in."""

import gc
import weakref
from contextlib import contextmanager, nullcontext, suppress

import pytest
import torch

from funpipe import _compat, optim
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


class Graph:
    """Stands for a CUDA graph."""

    def __init__(self):
        self.done = []

    def replay(self):
        self.done.append("replayed")

    def reset(self):
        self.done.append("reset")


class Pool:
    """Stands for a pool of memory."""

    id = (0, 7)


def stand_in(monkeypatch, capturing, left=None):
    """Replaces what torch has for recordings, for machines without a GPU; `left` gets the pools that are left."""
    for name, stands_for in (("CUDAGraph", Graph), ("MemPool", Pool), ("graph", contextmanager(capturing))):
        monkeypatch.setattr(torch.cuda, name, stands_for)
    monkeypatch.setattr(torch.cuda, "get_allocator_backend", lambda: "native")
    monkeypatch.setattr(torch.cuda, "Stream", lambda: "a new stream")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: "the stream before")
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    monkeypatch.setattr(_compat, "leave_pool", (left if left is not None else []).append)


def test_a_recording_has_a_stream_of_the_current_device_and_lets_other_threads_go_on(monkeypatch):
    entered = []

    def capturing(graph, **options):
        entered.append(options)
        yield
        entered.append("ended")

    @contextmanager
    def within(stream):
        yield
        entered.append(stream)

    stand_in(monkeypatch, capturing)
    monkeypatch.setattr(torch.cuda, "stream", within)
    replay, results = record(lambda: {"loss": entered.append("run") or torch.ones(())})
    replay()
    options = {"pool": Pool.id, "stream": "a new stream", "capture_error_mode": "thread_local"}
    assert entered == [options, "run", "ended", "the stream before"] and list(results) == ["loss"]
    assert replay.graph.done == ["replayed"]


def ends_badly(graph, **options):
    """torch raises another error when it ends a recording that is broken."""
    try:
        yield
    finally:
        raise RuntimeError("operation failed due to a previous error during capture")


def raises(error):
    def run():
        raise error

    return run


def test_a_recording_that_is_broken_off_says_why(monkeypatch):
    stand_in(monkeypatch, ends_badly)
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        record(raises(RuntimeError("operation not permitted when stream is capturing")))
    with pytest.raises(TypeError, match="of the function itself"):
        record(raises(TypeError("of the function itself")))
    with pytest.raises(RuntimeError, match="due to a previous error"):
        record(dict)


@pytest.mark.parametrize("error", [RuntimeError("waits"), KeyboardInterrupt()], ids=repr)
def test_a_recording_that_is_broken_off_leaves_its_pool(monkeypatch, error):
    """After the graph has let go of what torch itself undoes."""
    graphs, left = [], []

    def capturing(graph, **options):
        graphs.append(graph)
        yield

    stand_in(monkeypatch, capturing)
    monkeypatch.setattr(_compat, "leave_pool", lambda pool: left.append((pool.id, list(graphs[0].done))))
    with pytest.raises(type(error)):
        record(raises(error))
    assert left == [(Pool.id, ["reset"])]


def test_a_recording_that_succeeds_keeps_its_pool(monkeypatch):
    left = []
    stand_in(monkeypatch, lambda graph, **options: iter([None]), left)
    replay, _ = record(dict)
    assert left == [] and isinstance(replay.pool, Pool)


def test_an_allocator_without_pools_is_left_alone(monkeypatch):
    """Such as cudaMallocAsync: a pool of its own would be an error."""
    given, left = [], []

    def capturing(graph, **options):
        given.append(options["pool"])
        yield

    stand_in(monkeypatch, capturing, left)
    monkeypatch.setattr(torch.cuda, "get_allocator_backend", lambda: "cudaMallocAsync")
    assert record(dict)[0].pool is None
    with pytest.raises(RuntimeError, match="waits"):
        record(raises(RuntimeError("waits")))
    assert given == [None, None] and left == []


def test_an_error_of_a_recording_holds_nothing_once_it_is_dropped(monkeypatch):
    """A cycle through its own traceback would keep tensors until the garbage is collected."""
    stand_in(monkeypatch, ends_badly)
    held = []

    def run():
        tensor = torch.ones(3)
        held.append(weakref.ref(tensor))
        raise RuntimeError("waits")

    gc.disable()
    try:
        with suppress(RuntimeError):
            record(run)
        assert held[0]() is None
    finally:
        gc.enable()
