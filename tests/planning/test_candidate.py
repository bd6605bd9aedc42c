"""What can be run: every way to divide devices and batch."""

from funpipe.planning.candidate import Candidate, Dropped, Space, divisors
from funpipe.schedules import GPipe, OneFOneB


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


def test_one_rank_has_nothing_to_order():
    assert {str(c.schedule) for c in candidates(space(2, 4)) if c.pp == 1} == {str(OneFOneB())}


def test_one_replica_has_nothing_to_shard():
    assert {c.shard for c in candidates(space(2, 4, shard=(0, 3))) if c.dp == 1} == {0}
    assert {c.shard for c in candidates(space(2, 4, shard=(0, 3))) if c.dp == 2} == {0, 3}
