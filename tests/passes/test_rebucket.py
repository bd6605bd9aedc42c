"""Buckets in several parts hold the same leaves and train to the same bits."""

import pytest
import torch

import funpipe as fp
from funpipe import optim
from funpipe._errors import PassError
from funpipe._typing import MeshShape
from funpipe.passes import bucket, optimize, rebucket
from funpipe.programs import verify
from funpipe.programs.instructions import AllReduce, Flatten, Update
from funpipe.programs.layout import ALIGNMENT
from funpipe.schedules import ZBV, GPipe, OneFOneB
from tests.api.models import batch_of as rows_of
from tests.api.models import batches, loss_fn, same_bits, step_of, trained
from tests.api.models import params_of as tree_of
from tests.api.ranks import CLIPPED as CLIPPED
from tests.programs.models import batch_of, buffers_of, chain, normalized, params_of, programs_of, tied, weighted
from tests.programs.worlds import World
from tests.programs.worlds import same_bits as same_values

CUT = rebucket(60, 140)
"""The models' matrices have 144 bytes, the vectors 24."""
NORM = optim.chain(optim.clip_by_global_norm(0.05), optim.adamw(1e-2))


def programs(model, schedule, stages, optimizer, mesh):
    return optimize(programs_of(model, stages, 4, schedule.table(mesh.pp, 4), optimizer=optimizer, mesh=mesh))


def parts(programs):
    return {b.name: [s.leaf for s in b.slots] for b in programs.layout.buckets}


def test_the_last_leaves_come_first():
    """A matrix is larger than a part may be, and stands alone."""
    made = CUT(programs(chain, GPipe(), 1, NORM, MeshShape(1)))
    assert parts(made) == {
        "s0_float32_part0": ["w3"],
        "s0_float32_part1": ["w2"],
        "s0_float32_part2": ["w1"],
        "s0_float32_part3": ["w0"],
        "s0_float32_part4": ["b0", "b1", "b2", "b3"],
    }


def test_parts_are_laid_out_as_buckets_are():
    """Leaves aligned to 64 bytes, the whole padded to a multiple of the replicas."""
    made = CUT(programs(chain, OneFOneB(), 2, NORM, MeshShape(2, 3)))
    for found in made.layout.buckets:
        assert all(slot.offset * 4 % ALIGNMENT == 0 for slot in found.slots)
        assert found.size * 4 % (ALIGNMENT * 3) == 0
        ends = [slot.offset + slot.numel for slot in found.slots]
        assert (
            all(end <= slot.offset for end, slot in zip(ends, found.slots[1:], strict=False)) and ends[-1] <= found.size
        )


def test_a_bucket_within_the_limit_stays():
    made = programs(chain, OneFOneB(), 2, NORM, MeshShape(2))
    assert rebucket()(made).layout == made.layout
    again = optimize(CUT(made), ())
    assert parts(CUT.fn(again)) == parts(again)


def test_every_part_is_reduced_and_updated_by_itself():
    made = CUT(programs(chain, OneFOneB(), 2, NORM, MeshShape(2, 2)))
    for program in made.programs:
        names = [b.name for b in made.layout.buckets if b.stage in program.stages]
        assert len(names) > 1
        assert [i.bucket for i in program.instructions if isinstance(i, Flatten)] == names
        reduced = [i.value for i in program.instructions if isinstance(i, AllReduce) and i.group == "dp"]
        assert reduced == [f"grad.{name}" for name in names]
        assert [i.bucket for i in program.instructions if isinstance(i, Update)] == names
    verify(made)


@pytest.mark.parametrize("model", [chain, weighted, tied, normalized])
@pytest.mark.parametrize(("schedule", "stages"), [(OneFOneB(), 2), (ZBV(), 4)], ids=["1f1b", "zbv"])
def test_bits_stay(model, schedule, stages):
    if model is normalized and stages == 4:
        return  # zbv runs forwards in an order that running statistics do not allow
    mesh = MeshShape(2, 2)
    made = programs(model, schedule, stages, NORM, mesh)
    worlds = [World(p, params_of(model), NORM, buffers_of(model)) for p in (made, CUT(made))]
    for seed in range(3):
        results = [world.step(batch_of(4 * mesh.dp, seed=seed)) for world in worlds]
        assert same_values(*results)
    assert same_values(*(world.params() for world in worlds))


def test_gradients_without_an_optimizer():
    made = programs(chain, OneFOneB(), 2, None, MeshShape(2))
    worlds = [World(p, params_of(chain)) for p in (made, CUT(made))]
    for world in worlds:
        world.step(batch_of(4))
    assert same_values(*(world.grads() for world in worlds))


def test_a_step_with_the_pass():
    one, other = step_of(loss_fn, CLIPPED), step_of(loss_fn, CLIPPED, passes=CUT)
    found = [trained(step, tree_of(), batches(3)) for step in (one, other)]
    assert same_bits(one.gather(found[0][0]), other.gather(found[1][0]))
    assert same_bits(found[0][1], found[1][1])
    assert len(other.lowered.all.layout.buckets) > len(one.lowered.all.layout.buckets)


def test_checkpoints_go_from_one_layout_to_the_other():
    one, other = step_of(loss_fn, CLIPPED), step_of(loss_fn, CLIPPED, passes=[CUT])
    state, _ = trained(one, tree_of(), batches(2))
    cut = other.load(other.init(tree_of(7), rows_of()), one.state_dict(state))
    back = one.load(one.init(tree_of(7), rows_of()), other.state_dict(cut))
    assert same_bits(one.gather(back), other.gather(cut))
    assert same_bits(one(back, rows_of())[1]["loss"], other(cut, rows_of())[1]["loss"])


def test_other_sizes_of_the_batch_and_evaluations():
    one, other = step_of(loss_fn, CLIPPED), step_of(loss_fn, CLIPPED, passes=[CUT])
    found = []
    for step in (one, other):
        state = step.init(tree_of(), rows_of())
        for rows in (8, 16, 8):
            state, _ = step(state, rows_of(rows))
        found.append((step.gather(state), fp.eval_step(loss_fn, like=step)(state, rows_of())["loss"]))
    assert same_bits(found[0], found[1])


@pytest.mark.full
def test_the_compiled_step():
    found = []
    for options in ({}, {"passes": [CUT]}):
        step = step_of(loss_fn, CLIPPED, backend="step", **options)
        state, losses = trained(step, tree_of(), batches(3))
        found.append((step.gather(state), losses))
    torch.testing.assert_close(found[0], found[1])


def test_mistakes():
    with pytest.raises(PassError, match=r"cap_bytes is 0; pass a positive number of bytes, such as cap_bytes="):
        rebucket(cap_bytes=0)
    with pytest.raises(PassError, match=r"the pass 'bucket' takes a Graph, and was given a Programs"):
        step_of(loss_fn, passes=[bucket()]).init(tree_of(), rows_of())
