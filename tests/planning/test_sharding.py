"""Memory and traffic of the ZeRO stages, against the figures of the paper."""

import pytest

from funpipe.planning.cluster import Link
from funpipe.planning.load import Load
from funpipe.planning.sharding import Ring, reduce_time, sharded, static_bytes

PSI, K, N = 7.5e9, 12, 64
"""The paper's example: parameters, bytes of optimizer state for each, replicas (section 5, figure 1)."""

LOAD = Load(
    F=1.0, B=2.0, I=1.0, W=1.0, params=2 * PSI, owned=2 * PSI, slots=K * PSI, tied=0, saved=0, for_weights=0,
    working=5.0, forward=0, backward=0,
)  # fmt: skip
RING = Ring(N, Link(1e9))


@pytest.mark.parametrize(("shard", "gigabytes"), [(0, 120), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_the_memory_is_that_of_the_paper(shard, gigabytes):
    assert static_bytes(LOAD, shard, N) / 1e9 == pytest.approx(gigabytes, abs=0.05)


@pytest.mark.parametrize(("shard", "passes"), [(0, 2), (1, 2), (2, 1), (3, 0)])
def test_what_is_sent_at_the_end_of_a_step(shard, passes):
    assert reduce_time(LOAD, shard, RING) == pytest.approx(passes * (N - 1) / N * 2 * PSI / 1e9)


def test_stage_3_sends_half_as_much_again_as_plain_replicas():
    made = sharded(LOAD, 3, RING)
    sent = (made.F - LOAD.F) + (made.B - LOAD.B) + reduce_time(LOAD, 3, RING)
    assert sent == pytest.approx(1.5 * reduce_time(LOAD, 0, RING))


def test_whole_gradients_and_parameters_are_there_while_a_stage_runs():
    assert sharded(LOAD, 2, RING).working == 5.0 + 2 * PSI
    assert sharded(LOAD, 3, RING).working == 5.0 + 4 * PSI


@pytest.mark.parametrize("shard", [0, 1, 2, 3])
def test_one_replica_has_nobody_to_share_with(shard):
    alone = Ring(1, Link(1e9))
    assert sharded(LOAD, shard, alone) == LOAD
    assert reduce_time(LOAD, shard, alone) == 0
    assert static_bytes(LOAD, shard, 1) == static_bytes(LOAD, 0, 1)


def test_each_pass_has_as_many_messages_as_neighbours():
    assert Ring(4, Link(latency=0.5)).pass_round(1.0) == 1.5
