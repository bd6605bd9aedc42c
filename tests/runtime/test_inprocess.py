"""Messages and collectives between threads: right bytes in any order, and never a silent hang."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from funpipe._errors import TransportError
from funpipe._typing import TensorType
from funpipe.backends import installed
from funpipe.backends.transport import Message
from funpipe.runtime import InProcess


def message(id, tensor, src=0, dst=1):
    return Message(id, src, dst, TensorType.of(tensor), f"F {src}->{dst} value v{id}")


def in_threads(hub, programs):
    """Runs one function per rank; a rank that raises tells the others."""

    def play(rank):
        end = hub.endpoint(rank)
        try:
            return programs[rank](end)
        except Exception as error:
            end.fail(error)
            raise

    with ThreadPoolExecutor(len(programs)) as pool:
        return [pool.submit(play, rank) for rank in range(len(programs))]


@st.composite
def plans(draw):
    """Messages between random ranks, some sent twice, and for each rank an order of its starts and of its waits."""
    num_ranks = draw(st.integers(2, 4))
    ends = st.tuples(st.integers(0, num_ranks - 1), st.integers(0, num_ranks - 1)).filter(lambda e: e[0] != e[1])
    messages = [
        message(id, torch.zeros(3), *pair) for id, pair in enumerate(draw(st.lists(ends, min_size=1, max_size=8)))
    ]
    times = [draw(st.integers(1, 2)) for _ in messages]
    mine = [
        [m for m, n in zip(messages, times, strict=True) for _ in range(n) if rank in (m.src, m.dst)]
        for rank in range(num_ranks)
    ]
    return [(draw(st.permutations(each)), draw(st.permutations(each))) for each in mine]


def play_order(starts, waits):
    """The program of one rank: all its starts, then all its waits; returns what it received, by message."""

    def program(end):
        count, got = {}, {}
        for m in starts:
            count[m.id] = count.get(m.id, 0) + 1
            if end.rank == m.src:
                end.send(torch.full((3,), 10.0 * m.id + count[m.id]), m)
            else:
                end.post_recv(m)
        for m in waits:
            if end.rank == m.src:
                end.wait_send(m)
            else:
                got.setdefault(m.id, []).append(end.wait_recv(m)[0].item())
        return got

    return program


@settings(deadline=None, max_examples=60)
@given(plans())
def test_every_order_of_starts_and_waits_delivers(plan):
    futures = in_threads(InProcess(len(plan), timeout=20), [play_order(*orders) for orders in plan])
    for future in futures:
        for id, values in future.result().items():
            assert values == [10.0 * id + n + 1 for n in range(len(values))]


def test_a_buffer_has_the_strides_of_its_type_and_shares_nothing():
    hub = InProcess(2)
    first, second = hub.endpoint(0), hub.endpoint(1)
    x = torch.arange(6.0).reshape(2, 3).t()
    second.post_recv(message(0, x))
    first.send(x, message(0, x))
    first.wait_send(message(0, x))
    sent = x.clone()
    x.zero_()
    got = second.wait_recv(message(0, x))
    assert got.stride() == (1, 3)
    assert torch.equal(got, sent)


def test_a_send_copies_nothing_so_its_tensor_is_not_free_before_wait_send():
    hub = InProcess(2)
    first, second = hub.endpoint(0), hub.endpoint(1)
    x = torch.ones(2)
    first.send(x, message(0, x))
    x.zero_()  # too early
    second.post_recv(message(0, x))
    assert torch.equal(second.wait_recv(message(0, x)), torch.zeros(2))


def test_wait_send_needs_the_peers_post_recv_and_no_more():
    hub = InProcess(2)
    first, second = hub.endpoint(0), hub.endpoint(1)
    x = torch.ones(2)
    with ThreadPoolExecutor(1) as pool:
        first.send(x, message(0, x))
        waiting = pool.submit(first.wait_send, message(0, x))
        time.sleep(0.05)
        assert not waiting.done()
        second.post_recv(message(0, x))
        waiting.result(5)


@pytest.mark.parametrize(
    ("start", "wait", "text"),
    [
        ("send", "wait_send", "rank 0 sending 'F 0->1 value v0' .message 0, rank 0 to rank 1.: rank 1 has not posted"),
        ("post_recv", "wait_recv", "rank 0 receiving 'F 1->0 value v0' .* rank 1 has not sent it within 0.05 s"),
    ],
)
def test_a_peer_that_never_comes_is_named(start, wait, text):
    end = InProcess(2, timeout=0.05).endpoint(0)
    x = torch.ones(1)
    m = message(0, x) if start == "send" else message(0, x, 1, 0)
    getattr(end, start)(*((x, m) if start == "send" else (m,)))
    with pytest.raises(TransportError, match=f"{text}.*or allow more time with timeout="):
        getattr(end, wait)(m)


def test_a_failed_rank_ends_the_waits_of_the_others_at_once():
    def fails(end):
        time.sleep(0.05)
        raise KeyError("no such leaf")

    def waits(end):
        end.post_recv(message(0, torch.ones(1), 2, end.rank))
        end.wait_recv(message(0, torch.ones(1), 2, end.rank))

    began = time.monotonic()
    futures = in_threads(InProcess(3, timeout=60), [waits, lambda end: end.all_reduce(torch.ones(1), "pp"), fails])
    for rank in (0, 1):
        with pytest.raises(TransportError, match=f"rank {rank} stopped .*rank 2 failed with KeyError.*fix that error"):
            futures[rank].result()
    assert time.monotonic() - began < 5


def test_collectives_meet_in_their_order():
    def program(end):
        x = torch.tensor([float(end.rank + 1)])
        pending = end.all_gather_start(x, "world")
        end.all_reduce(x, "pp")
        y = torch.tensor(end.rank)
        end.broadcast(y, 2, "pp")
        end.all_reduce(y, "dp")
        return x.item(), y.item(), [t.item() for t in pending.wait()]

    hub = InProcess(3, timeout=20)
    assert [f.result() for f in in_threads(hub, [program] * 3)] == [(6.0, 2, [1.0, 2.0, 3.0])] * 3
    assert not hub.gathering.laid


def test_gathered_tensors_belong_to_the_rank():
    hub = InProcess(2, timeout=20)
    futures = in_threads(hub, [lambda end: end.all_gather_start(torch.zeros(2), "pp").wait()] * 2)
    futures[0].result()[0].fill_(7)
    assert futures[1].result()[0].tolist() == [0, 0]


def test_an_absent_rank_of_a_collective_is_named():
    with pytest.raises(TransportError, match=r"all_reduce over 'pp'.*ranks \[1, 2\] have not called it within 0.05 s"):
        InProcess(3, timeout=0.05).endpoint(0).all_reduce(torch.ones(1), "pp")


def test_misuse_is_an_error_and_no_wrong_number():
    hub = InProcess(2)
    first, second = hub.endpoint(0), hub.endpoint(1)
    m = message(0, torch.ones(2))
    with pytest.raises(TransportError, match="must be sent by rank 0, but rank 1 did it.*own program"):
        second.send(torch.ones(2), m)
    with pytest.raises(TransportError, match=r"sends int64\[2\] as .* says float32\[2\].*build the step again"):
        first.send(torch.ones(2, dtype=torch.int64), m)
    with pytest.raises(TransportError, match="never started it; call post_recv first"):
        second.wait_recv(m)
    gaps = Message(1, 0, 1, TensorType((2,), (3,), torch.float32), "gaps")
    with pytest.raises(TransportError, match="leave gaps or overlap: make the value contiguous"):
        second.post_recv(gaps)
    with pytest.raises(TransportError, match="there is no rank 2; ask for one from 0 to 1"):
        hub.endpoint(2)


def test_an_uninstalled_transport_is_not_found():
    handle = installed.new_handle()
    installed.install(handle, installed.Endpoint(InProcess(1).endpoint(0), ()))
    assert installed.endpoint(handle).transport.rank == 0
    installed.uninstall(handle)
    with pytest.raises(TransportError, match=f"no transport .* handle {handle}.*while its mesh is open"):
        installed.endpoint(handle)
