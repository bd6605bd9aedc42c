"""Ranks that start collectives of all sizes in one order, and wait in their own, late or never: always plain sums."""

import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from funpipe._typing import TensorType
from funpipe.backends.transport import Message
from funpipe.runtime.transports import lending
from tests.runtime.test_shared_memory import connected

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory without a name is there on Linux only")

GROUPS = {1: [0, 1, 2], 2: [0, 2], 3: [1, 2]}
SIZES = (1, 100, 4096, 2**17, 2**17 + 1, 2**20)


def given(rank, number, size):
    return torch.full((size,), (7 * number + 31 * rank) % 251, dtype=torch.uint8)


def started(end, number, kind, size, form):
    """Lent or copied, as the size says on all ranks alike; what was given is overwritten at once."""
    ranks, value = GROUPS[kind], given(end.rank, number, size)
    if size > 2**17:
        meeting = lending.lend(end, kind, ranks, size, lambda raw: raw.copy_(value), form)
        value.zero_()
        return meeting
    return end.meet(kind, ranks, value, form)


def wrong(end, number, kind, size, meeting):
    """The ranks whose parts are not what they gave."""
    parts = end.parts(meeting, 20)
    found = [rank for rank in GROUPS[kind] if not torch.equal(parts[rank], given(rank, number, size))]
    lending.give_back(end, meeting)
    return [(number, kind, size, rank) for rank in found]


def message(number, src, dst, size):
    return Message(number, src, dst, TensorType.of(torch.zeros(size, dtype=torch.uint8)), "value")


def play(end, seed, count=150):
    """What one rank does: the plan is everybody's, the pauses and the order of waits are its own."""
    plan, own, pending, coming, found = random.Random(seed), random.Random(100 * seed + end.rank), [], [], []
    for number in range(count):
        kind, size, src, dst = plan.choice(list(GROUPS)), plan.choice(SIZES), *plan.sample(range(3), 2)
        if end.rank in GROUPS[kind]:
            pending.append((number, kind, size, started(end, number, kind, size, number)))
        if end.rank == src:
            end.send(given(src, number, size), message(number, src, dst, size))
        if end.rank == dst:
            coming.append((number, src, size, end.post_recv(message(number, src, dst, size))))
        if own.random() < 0.05:
            time.sleep(0.003)
        if pending and own.random() < 0.1:
            pending.pop(own.randrange(len(pending)))
        while len(pending) > 8:
            found += wrong(end, *pending.pop(own.randrange(len(pending))))
        while len(coming) > 4:
            number_, src, size, message_ = coming.pop(own.randrange(len(coming)))
            found += [] if torch.equal(message_.wait(20), given(src, number_, size)) else [("message", number_)]
    return found + [each for mine in reversed(pending) for each in wrong(end, *mine)]


@pytest.mark.parametrize("seed", range(4))
def test_parts_are_what_was_given_in_any_order(seed):
    ends = connected(3)
    with ThreadPoolExecutor(3) as pool:
        played = [pool.submit(play, end, seed) for end in ends]
        found = [each.result() for each in played]
    for end in ends:
        end.close()
    assert found == [[], [], []]
