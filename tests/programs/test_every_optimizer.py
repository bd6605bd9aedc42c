"""The law of an optimizer: whatever the cut, the buckets and the ranks, a leaf's update has the same bits."""

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from funpipe import optim
from funpipe._errors import ProgramError
from funpipe._typing import MeshShape
from funpipe.passes import optimize, rebucket
from funpipe.programs import parse, verify
from funpipe.programs.instructions import Squares, Update
from funpipe.programs.slot_values import split_name
from funpipe.schedules import OneFOneB
from tests.programs.models import batch_of, chain, params_of, programs_of, tied
from tests.programs.worlds import World, same_bits

CLIP = optim.clip_by_global_norm(0.05)


def unit(grads, state, params):
    """Every gradient with norm one: an update that reads the whole leaf."""
    return {name: -0.1 * g / (g.norm() + 1e-3) for name, g in grads.items()}, state


OPTIMIZERS = {
    "lion": optim.lion(1e-2),
    "nadam": optim.nadam(1e-2),
    "muon": optim.muon(0.02, rest=optim.adamw(1e-2)),
    "muon, clipped": optim.chain(CLIP, optim.muon(0.02, rest=optim.sgd(1e-2, momentum=0.9))),
    "adafactor": optim.adafactor(0.05),
    "noise": optim.chain(optim.add_noise(noise_multiplier=1.0, max_norm=0.1, batch_size=1, key=0), optim.lion(1e-2)),
    "pair": optim.from_pair(lambda params: (), unit),
    "average": optim.ema(optim.adafactor(0.05), decay=0.5, debias=True),
    "accumulated": optim.accumulate(optim.chain(CLIP, optim.adamw(1e-2)), steps=2),
    "accumulated matrices": optim.accumulate(optim.chain(CLIP, optim.muon(0.02, rest=optim.lion(1e-2))), steps=2),
    "labels": optim.multi_transform(
        {"a": optim.ema(optim.muon(0.02)), "b": optim.chain(CLIP, optim.lion(1e-2))},
        {"w0": "freeze", "w*": "a", "*": "b"},
    ),
}


def lowered(name, stages, dp, model=chain):
    mesh = MeshShape(stages, dp)
    return optimize(programs_of(model, stages, 4, OneFOneB().table(stages, 4), optimizer=OPTIMIZERS[name], mesh=mesh))


def trained(programs, name, model=chain):
    """All parameters after three steps."""
    world = World(programs, params_of(model), OPTIMIZERS[name])
    for seed in range(3):
        world.step(batch_of(4 * programs.mesh.dp, seed=seed))
    return world.params()


@cache
def alone(name, dp, model=chain):
    return trained(lowered(name, 1, dp, model), name, model)


QUICK = ("muon, clipped", "adafactor", "noise", "accumulated matrices", "labels")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.full) for n in OPTIMIZERS])
@given(stages=st.integers(1, 4), dp=st.integers(1, 2), first=st.integers(1, 200), cap=st.integers(1, 400))
@settings(max_examples=3, deadline=None)
def test_cuts_buckets_and_ranks_give_the_same_bits(name, stages, dp, first, cap):
    made = rebucket(first, cap)(lowered(name, stages, dp))
    verify(made)
    assert same_bits(trained(made, name), alone(name, dp))


def test_tied_leaves_stay_equal():
    programs = lowered("muon", 2, 1, tied)
    world = World(programs, params_of(tied), OPTIMIZERS["muon"])
    world.step(batch_of(4))
    for leaf in programs.layout.loose:
        copies = world.copies(leaf)
        assert all(torch.equal(copy, copies[0]) for copy in copies)


def test_slots_of_leaves_have_their_own_shapes():
    programs = lowered("adafactor", 2, 1)
    slots = {split_name(n)[0]: t.shape for n, t in programs.types.items() if n.startswith("slot.")}
    assert (slots["row_var:w0"], slots["col_var:w3"], slots["variance:b0"]) == ((6, 1), (1, 6), (6,))


def test_the_text_of_programs_reads_back():
    for name in ("muon, clipped", "accumulated matrices"):
        for program in lowered(name, 2, 1).programs:
            assert parse(program.as_text()).instructions == program.instructions


def test_the_norm_of_accumulated_gradients_reads_the_state():
    plain, accumulated = (lowered(name, 2, 1).programs[0].instructions for name in ("muon, clipped", "accumulated"))
    (squares,) = (i for i in plain if isinstance(i, Squares))
    assert squares.state == ()
    (squares,) = (i for i in accumulated if isinstance(i, Squares))
    assert "slot.accumulated.s0_float32" in squares.state and "step" in squares.state


def test_a_part_of_a_bucket_is_updated_with_its_own_slots():
    made = rebucket(60, 140)(lowered("adafactor", 1, 1))
    for program in made.programs:
        for update in (i for i in program.instructions if isinstance(i, Update)):
            leaves = {slot.leaf for slot in made.layout.bucket(update.bucket).slots}
            assert {name.partition(":")[2] for name in update.slots} == leaves


def whole(grads, state, params):
    norm = torch.stack([g.square().sum() for g in grads.values()]).sum().sqrt()
    return {name: -0.1 * g / norm for name, g in grads.items()}, state


def test_an_update_of_all_leaves_needs_one_bucket():
    optimizer = optim.from_pair(lambda params: (), whole)
    assert [b.scope for b in programs_of(chain, 1, 4, optimizer=optimizer).layout.buckets] == ["tree"]
    with pytest.raises(ProgramError, match=r"reads all leaves.*in 2 buckets, s0_float32, s1_float32: use stages=1"):
        programs_of(chain, 2, 4, optimizer=optimizer)


def test_a_bucket_whose_update_reads_all_of_it_is_not_cut():
    optimizer = optim.from_pair(lambda params: (), whole)
    made = optimize(programs_of(chain, 1, 4, optimizer=optimizer))
    assert rebucket(60, 140)(made).layout == made.layout
