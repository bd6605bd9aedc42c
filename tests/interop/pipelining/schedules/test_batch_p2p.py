"""Whether messages are started one by one, together, and in which order; what moves them is torch's."""

import inspect
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from funpipe.interop.pipelining.schedules import _batch_p2p, _sorted_batch_p2p, _wait_batch_p2p
from funpipe.interop.pipelining.schedules import batch_p2p as module


class Started:
    """Stands for a message under way."""

    def __init__(self, *what):
        self.what, self.waited = what, False

    def wait(self):
        self.waited = True


@pytest.fixture
def calls(monkeypatch):
    """What is started, in order; `batch` where several are started as one."""
    found = []

    def isend(tensor, peer, group, tag):
        found.append(("send", peer))
        return Started("send", peer)

    def irecv(tensor, peer, group, tag):
        found.append(("receive", peer))
        return Started("receive", peer)

    def batch(ops):
        found.append(("batch", [op.peer for op in ops]))
        return [Started("batch", op.peer) for op in ops]

    monkeypatch.setattr(module.dist, "batch_isend_irecv", batch)
    return SimpleNamespace(found=found, isend=isend, irecv=irecv)


def op(function, peer):
    return SimpleNamespace(op=function, tensor=torch.zeros(1), peer=peer, group=None, tag=0)


def test_messages_of_one_way_are_started_one_by_one(calls):
    works = _batch_p2p([op(calls.isend, 1), op(calls.isend, 2)], desc="sends")
    assert calls.found == [("send", 1), ("send", 2)]
    assert len(works) == 2


def test_messages_of_both_ways_are_started_as_one(calls):
    works = _batch_p2p([op(calls.isend, 1), op(calls.irecv, 1)])
    assert calls.found == [("batch", [1, 1])]
    assert len(works) == 2


def test_peers_take_turns_in_their_order(calls):
    works = _sorted_batch_p2p([op(calls.isend, 2), op(calls.isend, 1), op(calls.irecv, 2)])
    assert calls.found == [("send", 1), ("batch", [2, 2])]
    assert list(works) == [1, 2]


def test_nothing_starts_nothing(calls):
    assert _batch_p2p([]) == [] and _sorted_batch_p2p([]) == {} and calls.found == []


def test_all_are_waited_for(calls):
    works = _batch_p2p([op(calls.isend, 1), op(calls.irecv, 1)])
    _wait_batch_p2p(works)
    assert all(work.waited for work in works)


@pytest.mark.parametrize(("function", "peer"), [(dist.isend, "dst"), (dist.irecv, "src")])
def test_torch_takes_them_as_they_are_given(function, peer):
    bound = inspect.signature(function).bind("tensor", 1, "group", 7)
    assert bound.arguments == {"tensor": "tensor", peer: 1, "group": "group", "tag": 7}
