"""What can be run: every way to divide devices and batch."""

import pytest

from funpipe.planning.candidate import Candidate, Dropped, Space, divisors
from funpipe.schedules import DualPipeV, GPipe, Interleaved1F1B, LoopedBFS, OneFOneB, ZeroBubbleH1


def space(devices, batch, **changes):
    return Space(devices, batch, **{"schedules": (OneFOneB(), GPipe()), "remat": ("none",), "shard": (0,), **changes})


def candidates(of):
    return [c for c in of.candidates() if isinstance(c, Candidate)]


def test_divisors():
    assert divisors(12) == [1, 2, 3, 4, 6, 12]


def test_all_devices_and_all_rows_are_used():
    for c in candidates(space(6, 12)):
        assert c.pp * c.dp == 6
        assert c.dp * c.num_microbatches * c.rows == 12


def test_every_microbatch_that_divides_is_there():
    assert {c.rows for c in candidates(space(2, 12)) if c.pp == 2} == {1, 2, 3, 4, 6, 12}


def test_replicas_divide_the_batch_or_fall_out():
    (lost,) = [d for d in space(4, 6).candidates() if isinstance(d, Dropped)]
    assert (lost.pp, lost.dp) == (1, 4)
    assert lost.reason == "the global batch of 6 rows does not divide by 4 replicas"


def test_rows_that_do_not_divide_are_named():
    lost = [d for d in space(1, 6, rows=(4,)).candidates() if isinstance(d, Dropped)]
    assert [d.reason for d in lost] == ["none of rows=(4,) divides a replica's 6 rows"]


def on_one_rank(**changes):
    return {(str(c.schedule), c.remat) for c in candidates(space(1, 4, **changes)) if c.num_microbatches == 4}


@pytest.mark.parametrize(
    "schedules", [(OneFOneB(), GPipe()), (GPipe(), OneFOneB()), (ZeroBubbleH1(), GPipe(), OneFOneB())]
)
def test_on_one_rank_the_schedule_that_holds_the_least_is_taken(schedules):
    assert on_one_rank(schedules=schedules) == {("OneFOneB()", "none")}


def test_on_one_rank_more_stages_are_for_computing_again():
    schedules = (OneFOneB(), LoopedBFS(stages_per_rank=2), Interleaved1F1B(stages_per_rank=2), DualPipeV())
    few = "Interleaved1F1B(stages_per_rank=2)"
    found = on_one_rank(schedules=schedules, remat=("none", "full"))
    assert found == {("OneFOneB()", "none"), ("OneFOneB()", "full"), (few, "full")}


def test_one_replica_has_nothing_to_shard():
    assert {c.shard for c in candidates(space(2, 4, shard=(0, 3))) if c.dp == 1} == {0}
    assert {c.shard for c in candidates(space(2, 4, shard=(0, 3))) if c.dp == 2} == {0, 3}
