"""Collectives that arrive late: by the clock, from the last rank's start on."""

import time
from types import SimpleNamespace

import torch

from funpipe.runtime.transports.arriving import Arriving
from funpipe.runtime.transports.delayed import delayed, late


class Stamps:
    """A transport of two ranks, of which the other starts so much later."""

    def __init__(self, lag, other):
        self.lag, self.other = lag, other

    def all_gather_start(self, tensor, group):
        return SimpleNamespace(wait=lambda: [tensor, tensor + int(self.other * 1e9)])


def seconds(call):
    began = time.monotonic()
    call()
    return time.monotonic() - began


def test_the_lag_begins_with_the_last_start():
    arriving = late(Arriving([torch.ones(1)]), Stamps(0.1, 0.15), "dp")
    assert 0.24 < seconds(arriving.wait) < 1


def test_the_lag_passes_while_a_rank_computes():
    arriving = late(Arriving([torch.ones(1)]), Stamps(0.1, 0), "dp")
    time.sleep(0.12)
    assert seconds(arriving.wait) < 0.05


def test_waiting_takes_no_processor():
    arriving = late(Arriving([torch.ones(1)]), Stamps(0.2, 0), "dp")
    began = time.thread_time()
    arriving.wait()
    assert time.thread_time() - began < 0.05


def test_the_results_are_those_of_the_collective():
    x = torch.zeros(2)
    arriving = late(Arriving([x], lambda: x.fill_(3)), Stamps(0.01, 0), "dp")
    assert arriving.results[0] is x
    assert arriving.wait()[0].tolist() == [3, 3]
    assert seconds(arriving.wait) < 0.01


def test_the_lag_ends_with_the_block():
    transport = Stamps(0.0, 0)
    with delayed(transport, 0.5):
        with delayed(transport, 0.1):
            assert transport.lag == 0.1
        assert transport.lag == 0.5
    assert transport.lag == 0.0
