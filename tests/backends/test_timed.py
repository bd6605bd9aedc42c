"""A clock between the parts of a step: the same results, and every instruction once."""

from itertools import count

import pytest
import torch

from funpipe import optim
from funpipe._errors import FunpipeError
from funpipe.backends import Request, compile, ops
from funpipe.backends.emit import emit
from funpipe.backends.joined import joined
from funpipe.backends.link import function_of, one_by_one
from funpipe.backends.step import WholeStep
from funpipe.backends.timed import timed, timed_source
from funpipe.passes import optimize
from funpipe.programs import lower
from funpipe.schedules import OneFOneB, merge
from tests.backends.ranks import inputs_of
from tests.programs.models import chain, stages_of, traced_of

ADAMW = optim.adamw(1e-2)


@pytest.fixture(scope="module")
def programs():
    """Two stages on one rank."""
    traced = traced_of(chain)
    return optimize(lower(traced, stages_of(traced, 2), merge(OneFOneB().table(2, 3)), optimizer=ADAMW))


def whole(programs, **code):
    """A step whose graphs run operator by operator."""
    emitted = emit(programs, 0, ADAMW, 1)
    graphs = {name: one_by_one(graph.module) for name, graph in emitted.graphs.items()}
    function = function_of(emitted.source, "step", {"torch": torch, "ops": ops.DIRECT, **graphs})
    return WholeStep(programs.programs[0], emitted, function, code or dict.fromkeys(graphs, ()))


def walk(programs):
    return compile("interpret", programs, Request(0, 1), ADAMW, [])


def given(programs):
    (values,) = inputs_of(programs, chain)
    return [values[name].clone() for name in programs.programs[0].inputs]


@pytest.mark.parametrize("make", [whole, walk])
def test_results_are_the_same_to_the_bit(programs, make):
    executable = make(programs)
    wanted, found = executable(given(programs)), timed(executable).executable(given(programs))
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


@pytest.mark.parametrize("make", [whole, walk])
def test_the_clock_is_read_before_each_part_and_after_the_last(programs, make):
    watched = timed(make(programs), count().__next__)
    watched.executable(given(programs))
    assert watched.times == list(range(len(watched.parts) + 1))


def test_a_walk_times_each_instruction(programs):
    assert timed(walk(programs)).parts == tuple((i,) for i in programs.programs[0].instructions)


def test_a_step_times_each_instruction_that_its_source_says(programs):
    parts = timed(whole(programs)).parts
    wanted = [call.instruction for call in joined(programs.programs[0])]
    assert [i for part in parts for i in part] == wanted


def test_the_step_itself_has_no_clock(programs):
    executable = whole(programs)
    watched = timed(executable)
    executable(given(programs))
    assert watched.times == [] and "tick" not in executable.emitted.source


def test_the_source_ends_with_the_clock_and_the_result(programs):
    emitted = emit(programs, 0, ADAMW, 1)
    lines = [line.strip() for line in timed_source(emitted).splitlines()]
    assert lines[0] == emitted.head and lines[1] == "tick()"
    assert lines[-2] == "tick()" and lines[-1].startswith("return (")
    assert [line for line in lines if line != "tick()"] == [line.strip() for line in emitted.source.splitlines()]


def test_a_step_that_is_one_function_has_no_parts(programs):
    with pytest.raises(FunpipeError, match='numerics="fast".*cannot be timed; use numerics="exact"'):
        timed(whole(programs, step=("code",)))


def test_another_executable_is_refused():
    with pytest.raises(FunpipeError, match='a function cannot be timed part by part; use backend="step"'):
        timed(lambda inputs: {})
