"""Collectives that are started and waited for later: alone, between threads, and between four processes each way."""

import time
import warnings
from collections import Counter
from dataclasses import replace
from functools import reduce as fold
from zlib import crc32

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from funpipe._errors import CommunicationError, TransportError
from funpipe._typing import TensorType
from funpipe.backends.transport import Message
from funpipe.functional.communication import OPERATORS, communicating
from funpipe.runtime import Distributed, InProcess, launch, mesh, mesh_of
from funpipe.runtime.communicator import TransportCommunicator
from funpipe.runtime.transports.collectives import LENT_FROM
from funpipe.runtime.transports.delayed import delayed
from funpipe.runtime.transports.memory import LARGEST
from tests.runtime.test_distributed import raised
from tests.runtime.test_inprocess import in_threads

COMBINE = {"sum": torch.add, "max": torch.maximum, "min": torch.minimum}
LARGE = LENT_FROM // 4 + 1
"""Elements of float32 that are lent, and no multiple of anything."""


def value(rank, n, shape=(3,), dtype=torch.float32):
    """What a rank gives to its n-th collective; sums of these depend on the order in their last bits."""
    made = torch.randn(shape, generator=torch.Generator().manual_seed(100 * n + rank)) * 8
    return made.to(dtype)


# One rank.


def test_alone_everything_is_a_copy():
    alone, x = TransportCommunicator(), torch.arange(4.0)
    with communicating(alone):
        pending = [
            OPERATORS.all_reduce(x, "sum", "dp"),
            *OPERATORS.all_reduce_coalesced([x, x.int()], "max", "world"),
            OPERATORS.all_gather(x, "pp", 1),
            OPERATORS.reduce_scatter(x, "min", "dp", 1),
        ]
        assert alone.pending == 5
        found = [OPERATORS.wait_tensor(each) for each in pending]
    assert all(torch.equal(each, x.to(each.dtype)) for each in found)
    assert alone.pending == 0
    found[0].zero_()
    assert x.tolist() == [0, 1, 2, 3]


def test_nothing_to_reduce_gives_nothing():
    assert TransportCommunicator().all_reduce_coalesced([], "sum", "dp") == []


def test_a_wait_needs_a_start():
    alone = TransportCommunicator()
    pending = alone.all_reduce(torch.ones(2), "sum", "dp")
    for wrong in (torch.ones(2), pending.view(2), pending.clone()):
        with pytest.raises(CommunicationError, match=r"shape \(2,\) .* not pending \(1 others are\).*Wait once"):
            alone.wait(wrong)
    alone.wait(pending)
    with pytest.raises(CommunicationError, match=r"not pending \(0 others are\).*or it was waited for before"):
        alone.wait(pending)


def test_what_is_given_up_is_not_pending():
    alone = TransportCommunicator()
    pending = alone.all_reduce(torch.ones(2), "sum", "dp")
    alone.forget()
    assert alone.pending == 0
    with pytest.raises(CommunicationError, match="not pending"):
        alone.wait(pending)


def test_an_axis_or_message_that_is_not_there_is_named():
    message = Message(3, 0, 1, TensorType.of(torch.ones(2)), "F 0->1 value h")
    alone = TransportCommunicator(None, [message])
    with pytest.raises(CommunicationError, match="no mesh axis 'tp'; use one of 'dp', 'pp', 'world'"):
        alone.all_reduce(torch.ones(2), "sum", "tp")
    with pytest.raises(CommunicationError, match="message 7 is not among the 1 messages .* messages=programs.messages"):
        alone.post_recv(7)
    with pytest.raises(TransportError, match="'F 0->1 value h' goes from rank 0 to rank 1, but this process is alone"):
        alone.send(torch.ones(2), 3)


# Threads.

STARTS = st.sampled_from(["all_reduce", "coalesced", "all_gather", "reduce_scatter"])
PLANS = st.lists(st.tuples(STARTS, st.sampled_from(list(COMBINE)), st.integers(0, 3)), min_size=1, max_size=6)


def start(communicator, rank, size, n, plan, axis="pp"):
    """Starts the n-th collective of a plan; returns what is pending."""
    what, reduce, rows = plan
    if what == "coalesced":
        tensors = [value(rank, n, (rows, 2)).t(), value(rank, n + 50).to(torch.int64)]
        return communicator.all_reduce_coalesced(tensors, reduce, axis)
    if what == "all_gather":
        return [communicator.all_gather(value(rank, n, (rows, 2)), axis)]
    if what == "reduce_scatter":
        return [communicator.reduce_scatter(value(rank, n, (rows * size, 2)), reduce, axis)]
    return [communicator.all_reduce(value(rank, n, (rows,)), reduce, axis)]


def expected(rank, ranks, n, plan):
    """The same from all ranks' values."""
    what, reduce, rows = plan
    if what == "coalesced":
        pairs = [(value(r, n, (rows, 2)).t(), value(r, n + 50).to(torch.int64)) for r in ranks]
        return [fold(COMBINE[reduce], each) for each in zip(*pairs, strict=True)]
    if what == "all_gather":
        return [torch.cat([value(r, n, (rows, 2)) for r in ranks])]
    shape = (rows * len(ranks), 2) if what == "reduce_scatter" else (rows,)
    total = fold(COMBINE[reduce], [value(r, n, shape) for r in ranks])
    return [total.reshape(len(ranks), rows, 2)[ranks.index(rank)] if what == "reduce_scatter" else total]


@settings(deadline=None, max_examples=40)
@given(PLANS, st.integers(1, 4), st.randoms(use_true_random=False))
def test_waits_may_come_in_any_order(plans, size, random):
    orders = [random.sample(range(len(plans)), len(plans)) for _ in range(size)]

    def program(end):
        communicator = TransportCommunicator(end)
        pending = [start(communicator, end.rank, size, n, plan) for n, plan in enumerate(plans)]
        for n in orders[end.rank]:
            found = [communicator.wait(each) for each in pending[n]]
            wanted = expected(end.rank, list(range(size)), n, plans[n])
            assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True)), plans[n]
        return communicator.pending

    assert [f.result() for f in in_threads(InProcess(size, timeout=20), [program] * size)] == [0] * size


def test_messages_go_by_their_ids():
    x = torch.arange(3.0)
    messages = [Message(n, n, 1 - n, TensorType.of(x), f"value {n}") for n in (0, 1)]

    def program(end):
        communicator, rank = TransportCommunicator(end, messages), end.rank
        mine = x + rank
        communicator.post_recv(1 - rank)
        communicator.send(mine, rank)
        got = communicator.wait_recv(1 - rank)
        communicator.wait_send(mine, rank)
        return got.tolist()

    assert [f.result() for f in in_threads(InProcess(2, timeout=20), [program] * 2)] == [[1, 2, 3], [0, 1, 2]]


def test_groups_keep_their_order_apart():
    """Between two groups there is no order: each rank starts them as it likes."""

    def program(end):
        communicator, x = TransportCommunicator(end), torch.tensor([float(end.rank)])
        axes = ["pp", "world"] if end.rank == 0 else ["world", "pp"]
        pending = {axis: communicator.all_reduce(x + 10 * (axis == "pp"), "sum", axis) for axis in axes}
        return [communicator.wait(pending[axis]).item() for axis in ("pp", "world")]

    assert [f.result() for f in in_threads(InProcess(2, timeout=20), [program] * 2)] == [[21, 1]] * 2


def test_threads_in_another_collective_do_not_meet():
    """Of as many bytes: they wait for each other, and nobody gets wrong numbers."""

    def program(end):
        pending = end.all_reduce_start([torch.ones(2)], "sum" if end.rank else "max", "pp")
        return raised(pending.wait)

    for rank, found in enumerate(in_threads(InProcess(2, timeout=0.2), [program] * 2)):
        kind, text = found.result()
        assert kind is TransportError
        assert f"ranks [{1 - rank}] have not called it within 0.2 s" in text


# Processes.


def kinds(end, axis, ranks, rank):
    """Small and large collectives of all kinds under way at once, waited for in an order of each rank's own."""
    communicator, size = TransportCommunicator(end), len(ranks)
    plans = [(what, reduce, rows) for what in ("all_reduce", "coalesced", "all_gather", "reduce_scatter")
             for reduce, rows in (("sum", 5), ("max", LARGE), ("sum", LARGE), ("min", 0))]  # fmt: skip
    pending = [start(communicator, rank, size, n, plan, axis) for n, plan in enumerate(plans)]
    wrong = []
    for n in range(len(plans)) if rank % 2 else reversed(range(len(plans))):
        found = [communicator.wait(each) for each in pending[n]]
        close = zip(found, expected(rank, ranks, n, plans[n]), strict=True)
        if not all(torch.allclose(a, b, rtol=1e-5, atol=1e-5) for a, b in close):
            wrong.append(plans[n])
    return wrong


def bits(end, axis):
    """Sums of many dtypes and layouts, as bytes: the same on every rank."""
    rank, found = dist.get_rank(), []
    for n, dtype in enumerate((torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int32, torch.uint8)):
        for shape in ((3, 7), (LARGE, 2)):
            x = value(rank, n, shape, dtype).t()
            (total,) = end.all_reduce_start([x], "sum", axis).wait()
            found.append(crc32(total.contiguous().view(torch.uint8).numpy().tobytes()))
    return found


def steps(end, axis):
    """Buckets of one step are waited for in the next; a start's argument is overwritten at once."""
    communicator, rank, wrong, pending = TransportCommunicator(end), dist.get_rank(), [], {}
    ranks, known = end.ranks[axis], len(end.near.blocks.all)
    for step in range(6):
        for bucket, numel in enumerate((LARGE, 10, 3 * LARGE)):
            before = pending.pop(bucket, None)
            if before is not None:
                total = communicator.wait(before)
                wrong += [(step, bucket)] * (total.unique().tolist() != [sum(ranks) + len(ranks) * (step - 1.0)])
            x = torch.full((numel,), rank + float(step))
            pending[bucket] = communicator.all_reduce(x, "sum", axis)
            x.fill_(-1)
    blocks = len(end.near.blocks.all) - known
    left = communicator.pending
    for each in pending.values():
        communicator.wait(each)
    return wrong, left, blocks


def in_place(end, axis):
    """The blocking sum, above what goes by copies; a transposed tensor, too."""
    x = (torch.arange(2.0 * LARGE).view(2, LARGE) + dist.get_rank()).t()
    end.all_reduce(x, axis)
    return x.is_contiguous(), torch.equal(x, (torch.arange(2.0 * LARGE).view(2, LARGE) * 4 + 6).t())


def lagging(end):
    """A sum that arrives late, with something computed meanwhile: the time of the wait, and of its processor."""
    with delayed(end, 0.4):
        x = torch.ones(LARGE)
        end.all_reduce(torch.ones(1), "world")  # all are here
        began = time.monotonic()
        pending = end.all_reduce_start([x], "sum", "world")
        started = time.monotonic() - began
        while time.monotonic() < began + 0.25:
            x.sin()
        processor = time.process_time()
        (total,) = pending.wait()
    return started, time.monotonic() - began, time.process_time() - processor, total[0].item()


def late(end):
    """Ranks other than 0 never start; both sizes."""
    if dist.get_rank() != 0:
        return None
    end.timeout = 0.1
    started = [end.all_reduce_start([torch.ones(n)], "sum", "world") for n in (1, LARGE)]
    return [raised(each.wait) for each in started]


def another(end):
    """Replicas that start different collectives of as many bytes, small and large: never wrong numbers."""
    found, first = [], dist.get_rank() < 2
    for n in (4, 4 * LARGE):
        reduce, dtype = "sum" if first else "max", torch.float32 if first else torch.int32
        starts = [
            end.all_reduce_start([torch.ones(n)], reduce, "dp"),
            end.all_reduce_start([torch.ones(n, dtype=dtype)], "sum", "dp"),
            end.all_gather_into_start(torch.ones(n), "dp")
            if first
            else end.reduce_scatter_start(torch.ones(n), "sum", "dp"),
        ]
        found += [raised(each.wait) for each in starts]
    return found, end.all_reduce_start([torch.ones(1)], "sum", "dp").wait()[0].item()


def last_words(place):
    """Pipeline rank 0 starts more than there is room for, and its transport ends; rank 1 comes later."""
    end, x = Distributed(place), torch.zeros(LARGEST // 4)
    if end.rank == 0:
        for n in range(4):
            end.send(x, Message(n, 0, 1, TensorType.of(x), f"value {n}"))
    else:
        time.sleep(0.2)
    pending = end.all_gather_start(torch.ones(1), "pp")
    return len(pending.wait()) if end.rank == 1 else 2


def four_ranks():
    """Two replicas of two ranks, each way; then three of the four."""
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    place = mesh(pp=2, dp=2, timeout=60)
    rank, found = dist.get_rank(), {}
    for same_host in ("shared memory", "network"):
        end = Distributed(replace(place, same_host=same_host))
        found[same_host] = {
            "kinds": [kinds(end, axis, end.ranks[axis], rank) for axis in ("dp", "pp", "world")],
            "bits": bits(end, "world"),
            "steps": steps(end, "dp"),
            "in place": in_place(end, "world"),
            "lagging": lagging(end),
        }
        dist.barrier()
        if same_host == "shared memory":
            found["another"] = another(end)
            dist.barrier()
            found[same_host]["late"] = late(end)
    found["last words"] = last_words(place)
    group = dist.new_group([0, 2, 3])
    if rank != 1:
        part = mesh_of(group, device="cpu", timeout=60)
        end = Distributed(part)
        found["three"] = kinds(end, "pp", [0, 2, 3], rank), bits(end, "pp"), len(end.near.channels)
    dist.barrier()
    return found


@pytest.fixture(scope="module")
def four():
    return launch(four_ranks, 4, timeout=150)


WAYS = ("shared memory", "network")


@pytest.mark.parametrize("way", WAYS)
def test_small_and_large_of_all_kinds_in_all_groups(four, way):
    assert [rank[way]["kinds"] for rank in four] == [[[], [], []]] * 4


@pytest.mark.parametrize("way", WAYS)
def test_every_rank_has_the_same_bits(four, way):
    assert Counter(map(len, (rank[way]["bits"] for rank in four))) == {12: 4}
    assert all(rank[way]["bits"] == four[0][way]["bits"] for rank in four)


@pytest.mark.parametrize("way", WAYS)
def test_a_wait_may_be_in_the_next_step(four, way):
    assert [rank[way]["steps"][:2] for rank in four] == [([], 3)] * 4


def test_blocks_are_used_again(four):
    """Two large buckets, of which two steps are under way: not one block for each step."""
    assert max(rank["shared memory"]["steps"][2] for rank in four) <= 8
    assert [rank["network"]["steps"][2] for rank in four] == [0] * 4


@pytest.mark.parametrize("way", WAYS)
def test_the_blocking_sum_is_in_place(four, way):
    assert [rank[way]["in place"] for rank in four] == [(False, True)] * 4


@pytest.mark.parametrize("way", WAYS)
def test_a_slow_network_takes_time_and_no_processor(four, way):
    for started, whole, processor, total in (rank[way]["lagging"] for rank in four):
        assert started < 0.2
        assert 0.39 < whole < 2
        assert processor < 0.1
        assert total == 4


def test_a_late_rank_is_named(four):
    for kind, text in four[0]["shared memory"]["late"]:
        assert kind is TransportError
        assert "all_reduce over 'world' (global ranks [0, 1, 2, 3]) failed (timed out: 0.1 s without a word" in text


def test_another_collective_is_named_and_gives_no_numbers(four):
    for rank, (found, after) in enumerate(each["another"] for each in four):
        other = (rank + 2) % 4
        assert [kind for kind, _ in found] == [TransportError] * 6
        assert all(f"over this group global rank {other} started another collective, or one of" in t for _, t in found)
        assert after == 2


def test_a_rank_that_ends_has_sent_what_it_started(four):
    assert [rank["last words"] for rank in four] == [2] * 4


def test_three_of_four_ranks(four):
    found = [rank["three"] for rank in four if "three" in rank]
    assert [(wrong, channels) for wrong, _, channels in found] == [([], 2)] * 3
    assert all(bits == found[0][1] for _, bits, _ in found)
