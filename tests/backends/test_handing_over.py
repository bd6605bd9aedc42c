"""What a call is the last to read is handed over to it: the step holds nothing that its program has freed."""

import re
import sys
from collections import defaultdict

import pytest
import torch

from funpipe import optim
from funpipe.backends.emit import emit
from funpipe.backends.installed import Endpoint, install, new_handle, uninstall
from funpipe.backends.joined import joined
from funpipe.passes import optimize
from funpipe.programs import lower
from funpipe.programs.instructions import Run, WaitRecv
from funpipe.schedules import OneFOneB, merge
from tests.backends.ranks import inputs_of
from tests.backends.uncompiled import function
from tests.programs.models import MODELS, programs_of, stages_of, tied, traced_of

CLIPPED = optim.chain(optim.clip_by_global_norm(0.1), optim.adamw(1e-2))
OPTIMIZERS = {"gradients": None, "clipped adamw": CLIPPED}


def merged(loss_fn, optimizer):
    """Three stages and four microbatches on one rank: every rank's values and no messages."""
    traced = traced_of(loss_fn)
    return optimize(lower(traced, stages_of(traced, 3), merge(OneFOneB().table(3, 4)), optimizer=optimizer))


def references(tensors):
    """How many references each has beside the list."""
    return [sys.getrefcount(t) for t in tensors]


ALONE = references([torch.zeros(1)])[0]


class Watching:
    """Graphs that note which of their arguments somebody else holds while they run.

    Args:
        names: of the graphs that are watched.
    """

    def __init__(self, names):
        self.names = names
        self.held = defaultdict(list)

    def __call__(self, name, graph):
        def run(arguments):
            taken = list(arguments)
            arguments.clear()
            if name in self.names:
                self.held[name].append([count > ALONE for count in references(taken)])
            return graph.module(*taken)

        return run


def play(programs, loss_fn, optimizer, watching):
    """Runs the only rank."""
    (inputs,) = inputs_of(programs, loss_fn)
    emitted = emit(programs, 0, optimizer, 0)
    with torch.no_grad():
        function(emitted, watching)(torch.zeros(1), *(inputs[n].clone() for n in emitted.inputs))


@pytest.mark.parametrize("loss_fn", MODELS, ids=lambda f: f.__name__)
def test_a_region_alone_holds_what_the_program_frees_behind_it(loss_fn):
    programs = merged(loss_fn, CLIPPED)
    watching = Watching(programs.regions)
    play(programs, loss_fn, CLIPPED, watching)
    calls = [call for call in joined(programs.programs[0]) if isinstance(call.instruction, Run)]
    assert sum(len(call.freed) for call in calls) > 20
    for call in calls:
        held = watching.held[call.instruction.region].pop(0)
        expected = [name not in call.freed for name in call.instruction.reads]
        assert held[: len(expected)] == expected, call.instruction


def test_the_gradient_belongs_to_the_update_alone():
    """The flat gradient is the largest thing that a step makes: it ends with the update of its bucket."""
    programs = merged(MODELS[0], CLIPPED)
    watching = Watching(["block0"])
    play(programs, MODELS[0], CLIPPED, watching)
    graph = emit(programs, 0, CLIPPED, 0).graphs["block0"]
    flat = {b.size for b in programs.layout.buckets}
    (held,) = watching.held["block0"]
    own = [kind for kind, is_held in zip(graph.types, held, strict=True) if not is_held and kind.numel in flat]
    assert len(own) == len(programs.layout.buckets)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("loss_fn", MODELS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("num_stages", [1, 3])
def test_all_that_a_step_makes_is_deleted_or_returned(loss_fn, optimizer, num_stages):
    """Read off the source: what stays are views of the state, and the optimizer's numbers of this step."""
    programs = optimize(programs_of(loss_fn, num_stages, 3, optimizer=optimizer))
    for program in programs.programs:
        source = emit(programs, program.rank, optimizer, 7).source
        made = {v for line in re.findall(r"^    ((?:v\d+, )+|v\d+ )=", source, re.MULTILINE) for v in variables(line)}
        gone = {v for line in re.findall(r"^    (?:del|return) (.*)$", source, re.MULTILINE) for v in variables(line)}
        views = set(re.findall(r"(v\d+) = v\d+\.as_strided\(", source))
        numbers = {v for line in re.findall(r"(.*)= scalars\(", source) for v in variables(line)}
        assert made - gone - numbers <= views


def variables(text):
    return re.findall(r"v\d+", text)


def test_nothing_is_deleted_twice_or_used_behind_its_end():
    programs = optimize(programs_of(tied, 3, 4, optimizer=CLIPPED))
    for rank in range(3):
        gone = set()
        for line in emit(programs, rank, CLIPPED, 7).source.splitlines()[1:]:
            assert gone.isdisjoint(variables(line))
            gone |= set(variables(line)) if line.startswith("    del") else set()


class Canned:
    """A transport of one rank to which every message has already come; nothing else holds what it gives."""

    rank = 0

    def wait_recv(self, message):
        return torch.zeros(message.type.shape)

    def send(self, *ignored):
        pass

    wait_send = post_recv = send


def test_what_was_received_belongs_to_the_call_that_reads_it():
    """A message's buffer is as large as an activation."""
    programs = optimize(programs_of(tied, 2, 1))
    handle, watching = new_handle(), Watching(["B0"])
    install(handle, Endpoint(Canned(), programs.messages))
    emitted = emit(programs, 0, None, handle)
    with torch.no_grad():
        function(emitted, watching)(torch.zeros(1), *(inputs_of(programs, tied)[0][n] for n in emitted.inputs))
    uninstall(handle)
    instructions = programs.programs[0].instructions
    (run,) = (i for i in instructions if isinstance(i, Run) and i.region == "B0")
    (received,) = (i.value for i in instructions if isinstance(i, WaitRecv) and i.value in run.reads)
    assert watching.held["B0"][0][run.reads.index(received)] is False
