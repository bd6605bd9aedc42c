"""The time and memory of a candidate against what can be worked out by hand."""

from dataclasses import replace

import pytest

import funpipe as fp
from funpipe.optim import adamw
from funpipe.planning.candidate import Candidate
from funpipe.planning.cluster import Cluster, Link, Links
from funpipe.planning.load import Load
from funpipe.planning.predict import Stages
from funpipe.schedules import GPipe, Interleaved1F1B, OneFOneB
from tests.planning.models import cluster, gpt

LOAD = Load(
    F=1.0, B=2.0, I=1.0, W=1.0, params=10.0, owned=8.0, slots=16.0, tied=0.0, saved=3.0, for_weights=1.0,
    working=2.0, forward=4.0, backward=4.0,
)  # fmt: skip
FREE = Cluster(devices=4, flops=1.0, memory=1e9, bandwidth=1e30)


def stages(pp=4, dp=1, shard=0, m=8, schedule=None, load=LOAD, on=FREE, batch=0):
    candidate = Candidate(pp, dp, shard, schedule or OneFOneB(), 1, m, "none")
    return Stages(candidate, (load,) * candidate.num_stages, on, batch)


def test_without_communication_it_is_the_makespan():
    assert stages().predict().seconds == (8 + 3) * 3.0
    assert stages().predict().bubble == pytest.approx(9 / 33)


def test_overhead_and_update_are_added():
    on = replace(FREE, bandwidth=16.0, overhead=7.0)
    found = stages(on=on).predict()
    assert found.updating == ((4 * 8 + 2 * 16) / 16.0,) * 4
    assert found.seconds == 33 + 4.0 + 7.0


def test_replicas_sum_their_gradients_at_the_end():
    on = replace(FREE, links=Links(Link(2.0)))
    alone, two = (stages(pp=2, dp=dp, on=on, load=replace(LOAD, forward=0, backward=0)).predict() for dp in (1, 2))
    assert two.seconds - alone.seconds == 2 * (1 / 2) * 8.0 / 2.0


def test_tied_leaves_go_there_and_back():
    on = replace(FREE, links=Links(Link(2.0, 0.5)))
    assert stages(pp=2, load=replace(LOAD, tied=4.0), on=on).reducing == (5.0, 5.0)


def test_messages_between_nodes_are_slower():
    links = Links(Link(1e30), Link(1.0), node=2)
    one_node = stages(pp=2, on=replace(FREE, links=links)).predict()
    two_nodes = stages(pp=4, on=replace(FREE, links=links)).predict()
    assert one_node.seconds == (8 + 1) * 3.0
    assert two_nodes.seconds > 33.0


def test_messages_that_processors_copy_keep_them_busy():
    links = [Links(Link(1e30, 0.5), overlap=overlap) for overlap in (True, False)]
    free, busy = (stages(pp=2, on=replace(FREE, links=each)).predict() for each in links)
    assert free.seconds < busy.seconds
    assert min(busy.simulation.idle.communication) >= 2 * 8 * 0.5  # on each rank as many as come and go


def test_the_boundary_is_as_slow_as_on_the_slowest_replica():
    # Devices 0 1 2 | 3 4 5 | ...: of the pipelines (0 1) (2 3) (4 5), the second lies in two nodes.
    links = Links(Link(1e30), Link(1.0), node=3)
    assert stages(pp=2, dp=1, on=replace(FREE, links=links)).predict().seconds == 27.0
    assert stages(pp=2, dp=3, on=replace(FREE, links=links)).predict().simulation.makespan > 27.0


def test_memory_is_state_and_what_is_in_flight():
    # params 10, gradients 8, slots 16; 1F1B holds p - r microbatches of 3; while one runs 2, and 4 + 4 of messages
    assert stages().predict().memory == tuple(34.0 + 3 * (4 - r) + 10 for r in range(4))
    assert stages(schedule=GPipe()).predict().memory == (34.0 + 3 * 8 + 10,) * 4
    assert stages(batch=100).predict().memory[0] == 156.0


def test_all_stages_of_a_rank_count():
    found = stages(pp=2, schedule=Interleaved1F1B(stages_per_rank=2)).predict()
    assert found.simulation.memory.static == (68.0, 68.0)


def test_shares_are_parts_of_the_step():
    shares = stages(pp=2, dp=2, on=replace(FREE, overhead=1.0, links=Links(Link(2.0)))).predict().shares
    assert set(shares) == {"compute", "bubble", "communication", "overhead"}
    assert all(0 <= share <= 1 for share in shares.values())
    assert sum(shares.values()) <= 1 + 1e-9


@pytest.mark.parametrize("schedule", ["1f1b", "gpipe", "interleaved1f1b"])
def test_memory_covers_what_the_verifier_counts(schedule):
    loss, params, batch = gpt(4, rows=4)
    made = fp.plan(
        loss, params, batch, cluster=cluster(), global_batch=32, rows=(4,), pp=(2,), schedules=[schedule],
        remat=("none",),
    )  # fmt: skip
    best = made[0].candidate
    traced = fp.trace(loss, params, batch)
    table = best.schedule.table(2, best.num_microbatches)
    parts = fp.stages.partition(traced, made[0].cutter(traced))
    programs = fp.passes.optimize(fp.programs.lower(traced, parts, table, optimizer=adamw()))
    counted = fp.programs.verify(programs).peak_memory
    for told, real in zip(made[0].memory, counted, strict=True):
        assert 0.95 * real <= told <= 1.35 * real
