"""How many ranks and stages the arguments of a step stand for."""

from dataclasses import replace

import pytest
import torch

import funpipe as fp
from funpipe._errors import FunpipeTypeError, MeshError, ScheduleError
from funpipe.runtime.mesh import Mesh
from funpipe.runtime.setup import Setup
from funpipe.schedules import GPipe, Interleaved1F1B, OneFOneB


def setup(pp=None, schedule="1f1b", num_microbatches=4):
    shape = fp.MeshShape(pp) if pp else None
    mesh = Mesh(shape, None, 0, 0, torch.device("cpu"), 60.0, False) if shape else None
    return Setup(lambda p, b: None, fp.optim.sgd(0.1), mesh, None, schedule, num_microbatches, 0, "interpret")


@pytest.mark.parametrize(("pp", "stages"), [(None, 1), (1, 1), (2, 2), (4, 4)])
def test_a_schedule_says_how_many_stages_it_wants(pp, stages):
    assert setup(pp).num_stages() == stages


def test_a_table_says_how_many_stages_it_has():
    assert setup(schedule=GPipe().table(3, 4)).num_stages() == 3


@pytest.mark.parametrize(("pp", "stages"), [(4, 2), (2, 4), (2, 1)])
def test_more_ranks_than_stages_and_the_other_way_round(pp, stages):
    text = f"cut into {stages} stages, but the schedule '1f1b' needs {pp} on {pp} ranks: use stages={pp}, a mesh with"
    with pytest.raises(MeshError, match=text):
        setup(pp).table(stages)


@pytest.mark.parametrize(
    ("stages", "remedy"), [(2, "use stages=4, a mesh with pp=1, or another"), (3, "use stages=4, or another schedule")]
)
def test_a_mesh_is_offered_only_where_it_helps(stages, remedy):
    with pytest.raises(MeshError, match=f"cut into {stages} stages, .*'zbv' needs 4 on 2 ranks: {remedy}"):
        setup(2, "zbv").table(stages)


@pytest.mark.parametrize(
    ("schedule", "stages", "remedy"),
    [
        ("zbv", 1, "use stages=2, the nearest"),
        ("zbv", 3, "use stages=2 or stages=4, the nearest"),
        (GPipe().table(4, 4), 2, "use stages=4, the nearest"),
        (GPipe().table(2, 4), 4, "use stages=2, the nearest"),
    ],
)
def test_one_process_is_told_the_nearest_numbers_of_stages(schedule, stages, remedy):
    with pytest.raises(ScheduleError, match=f"has {stages} stages on no number of ranks: {remedy}"):
        setup(None, schedule).table(stages)


def test_a_table_for_another_mesh():
    with pytest.raises(ScheduleError, match="num_ranks"):
        setup(2, GPipe().table(4, 4)).table(4)


def test_a_map_says_how_many_stages_it_has():
    mapped = setup(schedule=OneFOneB(stage_to_rank=(0, 1, 1)))
    assert mapped.num_stages() == 3
    assert mapped.table(3).num_stages == 3


def test_one_process_plays_every_rank():
    table = setup(None, "gpipe").table(3)
    assert (table.num_ranks, table.num_stages) == (1, 3)


def test_on_a_mesh_the_table_is_the_schedules():
    assert setup(2).table(2) == OneFOneB().table(2, 4)


@pytest.mark.parametrize(("pp", "stages", "v"), [(2, 4, 2), (2, 6, 3), (4, 4, 1)])
def test_a_named_schedule_takes_as_many_stages_per_rank_as_there_are(pp, stages, v):
    assert setup(pp, "interleaved1f1b").table(stages) == Interleaved1F1B(v).table(pp, 4)


def test_a_training_step_needs_backwards():
    with pytest.raises(
        ScheduleError, match=r"'forward-only' has no backwards.*use a schedule that trains, such as 1f1b"
    ):
        setup(2, "forward-only").table(2)


def test_the_shape_and_rank_are_those_of_the_mesh():
    assert setup().shape == fp.MeshShape(1)
    made = setup(2)
    assert replace(made, mesh=replace(made.mesh, pp_rank=1)).rank == 1
    assert made.device == torch.device("cpu")
    assert setup().device is None


@pytest.mark.parametrize("remat", ["half", 0.5, ["full", "half"]])
def test_what_is_computed_again_is_checked_before_anything_is_traced(remat):
    with pytest.raises(FunpipeTypeError, match=r"remat is (0.5|'half'); use 'none', 'full'"):
        replace(setup(), remat=remat)
