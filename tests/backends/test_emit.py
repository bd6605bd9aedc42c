"""The source of a step, read as text and run as it stands: no compiler is involved."""

import re

import pytest
import torch

from funpipe import optim
from funpipe._typing import MeshShape
from funpipe.backends import ops
from funpipe.backends.emit import emit
from funpipe.backends.order import communication
from funpipe.passes import optimize
from funpipe.programs import lower
from funpipe.programs.instructions import Free, Update
from funpipe.schedules import GPipe, OneFOneB, merge
from tests.backends.ranks import expected, inputs_of
from tests.programs.models import MODELS, chain, programs_of, stages_of, tied, traced_of, weighted

ADAMW = optim.adamw(1e-2)
CLIPPED = optim.chain(optim.clip_by_global_norm(0.1), ADAMW)


def merged(loss_fn, num_stages, num_microbatches, optimizer, schedule=None):
    """Programs of one rank that plays all."""
    table = merge((schedule or OneFOneB()).table(num_stages, num_microbatches))
    traced = traced_of(loss_fn)
    return optimize(lower(traced, stages_of(traced, num_stages), table, optimizer=optimizer))


def run(emitted, inputs):
    """Runs the source in Python; gives state and results by name."""
    names = {"torch": torch, "ops": getattr(torch.ops, ops.NAMESPACE), **emitted.regions, **emitted.inlined}
    exec(emitted.source, names)
    given = {n: inputs[n].clone() for n in emitted.inputs}
    with torch.no_grad():
        results = names["step"](torch.zeros(1), *given.values())
    return given | dict(zip(emitted.outputs, results, strict=True))


@pytest.mark.parametrize("optimizer", [None, optim.sgd(0.1), CLIPPED], ids=["gradients", "sgd", "clipped adamw"])
@pytest.mark.parametrize("loss_fn", MODELS, ids=lambda f: f.__name__)
def test_the_source_does_what_the_interpreter_does(loss_fn, optimizer):
    programs = merged(loss_fn, 3, 4, optimizer)
    inputs = inputs_of(programs, loss_fn)
    found = run(emit(programs, 0, optimizer, 1), inputs[0])
    for name, value in expected(programs, inputs, optimizer)[0].items():
        assert torch.equal(found[name], value), name


def test_calls_of_a_tiny_program_in_order():
    source = emit(optimize(programs_of(chain, 2, 1, optimizer=ADAMW)), 0, ADAMW, 7).source
    calls = re.findall(r"\b(scalars|F0|B0|block0|copy_|add_|ops\.\w+)\(", source)
    assert calls == [
        *("scalars", "ops.post_recv", "F0", "ops.send", "ops.wait_recv", "ops.wait_send", "B0"),
        *("block0", "copy_", "copy_", "copy_", "add_"),
    ]


@pytest.mark.parametrize("loss_fn", MODELS, ids=lambda f: f.__name__)
def test_token_operators_stand_in_the_programs_order(loss_fn):
    programs = optimize(programs_of(loss_fn, 3, 4, optimizer=CLIPPED, mesh=MeshShape(3, 2)))
    for program in programs.programs:
        source = emit(programs, program.rank, CLIPPED, 7).source
        found = re.findall(r"ops\.(\w+)\(.*?token, 7, '?(\w+)", source)
        assert [f"{name} {what}" for name, what in found] == communication(program)


def test_every_operator_takes_the_token():
    source = emit(optimize(programs_of(tied, 2, 2, optimizer=CLIPPED)), 0, CLIPPED, 7).source
    assert all("token" in line for line in source.splitlines() if "ops." in line)


def test_the_end_of_a_send_takes_what_was_sent():
    source = emit(optimize(programs_of(tied, 3, 4, optimizer=ADAMW)), 0, ADAMW, 7).source
    sent = dict(re.findall(r"ops\.send\((.*), token, 7, (\d+)\)", source)[::-1])
    ended = dict(re.findall(r"ops\.wait_send\((.*), token, 7, (\d+)\)", source)[::-1])
    assert sent and sent == ended


def test_a_tied_leaf_is_sent_as_a_view_of_its_bucket():
    programs = optimize(programs_of(tied, 2, 2, optimizer=ADAMW))
    slot = programs.layout.home("words")[1]
    source = emit(programs, 0, ADAMW, 7).source
    assert f"ops.send(v0.narrow(0, {slot.offset}, {slot.numel}).view([7, 6]), token, 7, " in source


def test_state_is_overwritten_in_place_and_not_returned():
    programs = optimize(programs_of(chain, 2, 2, optimizer=ADAMW))
    made = emit(programs, 1, ADAMW, 7)
    assert made.inputs[:4] == ("bucket.s1_float32", "slot.m.s1_float32", "slot.v.s1_float32", "step")
    assert [f"v{i}.copy_(" in made.source for i in range(3)] == [True, True, True]
    assert "v3.add_(1)" in made.source
    assert made.outputs == ("loss",)


def test_without_an_update_no_state_is_written():
    source = emit(merged(chain, 2, 2, None), 0, None, 7).source
    assert "copy_" not in source and "add_" not in source and "scalars" not in source


def test_gradients_are_added_inside_the_backwards():
    made = emit(merged(chain, 4, 4, ADAMW), 0, ADAMW, 7)
    assert list(made.inlined) == ["block0"]
    assert sorted(made.regions) == ["B0", "B1", "B2", "B3", "F0", "F1", "F2", "F3", "scalars"]


def test_equal_stages_share_their_regions():
    first = emit(merged(chain, 4, 4, ADAMW), 0, ADAMW, 7).first
    forwards = {"F0": "F0", "F1": "F0", "F2": "F0", "F3": "F3"}
    assert first == {"scalars": "scalars", **forwards, "B3": "B3", "B2": "B2", "B1": "B2", "B0": "B0"}


@pytest.mark.parametrize("schedule", [GPipe(), OneFOneB()], ids=str)
def test_regions_do_not_grow_with_microbatches(schedule):
    few, many = (emit(merged(chain, 4, count, ADAMW, schedule), 0, ADAMW, 7) for count in (4, 16))
    assert few.regions.keys() == many.regions.keys()
    assert [str(g.graph) for g in few.regions.values()] == [str(g.graph) for g in many.regions.values()]


def test_schedules_call_the_same_regions():
    gpipe, one = (emit(merged(weighted, 4, 8, ADAMW, s), 0, ADAMW, 7) for s in (GPipe(), OneFOneB()))
    assert {n: str(g.graph) for n, g in gpipe.regions.items()} == {n: str(g.graph) for n, g in one.regions.items()}


def test_a_region_that_adds_elsewhere_too_gets_a_second_form():
    programs = merged(chain, 1, 2, ADAMW)
    (program,) = programs.programs
    kept = [i for i in program.instructions if not isinstance(i, Free)]
    at = next(k for k, i in enumerate(kept) if isinstance(i, Update))
    first = next(k for k, i in enumerate(kept) if type(i).__name__ == "Accumulate")
    moved = [*kept[:first], kept[first + 1], kept[first], *kept[first + 2 : at], *kept[at:]]
    edited = programs.map(lambda _, p: type(p)(p.rank, tuple(moved), p.stages, p.inputs, p.outputs))
    made = emit(edited, 0, ADAMW, 7)
    assert {"B0", "B0_apart"} <= set(made.regions)
    inputs = inputs_of(edited, chain)
    found, wanted = run(made, inputs[0]), expected(edited, inputs, ADAMW)[0]
    assert all(torch.equal(found[n], value) for n, value in wanted.items())
