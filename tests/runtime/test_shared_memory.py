"""Channels between two ends in one process: order, room, time, and an end that goes away."""

import os
import socket
import time
from collections import defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from threading import Event, Timer

import pytest
import torch
from hypothesis import given, settings

from funpipe._typing import TensorType
from funpipe.backends.transport import Message
from funpipe.runtime.transports import listening
from funpipe.runtime.transports.channel import Channel
from funpipe.runtime.transports.memory import LARGEST, MOST, SIZE
from funpipe.runtime.transports.shared_memory import SharedMemory
from tests.runtime.test_inprocess import plans, play_order

X = torch.arange(6.0).reshape(2, 3)


def message(id, tensor=X, src=0, dst=1):
    return Message(id, src, dst, TensorType.of(tensor), f"value v{id}")


def connected(count):
    """The ends of several ranks; here all read and write one process's memory."""
    channels = [{} for _ in range(count)]
    for a, b in combinations(range(count), 2):
        sockets = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        there, back = (torch.zeros(SIZE, dtype=torch.uint8) for _ in range(2))
        channels[a][b], channels[b][a] = Channel(sockets[0], there, back), Channel(sockets[1], back, there)
    return [SharedMemory(rank, mine, range(count)) for rank, mine in enumerate(channels)]


@pytest.fixture
def ends():
    made = connected(2)
    yield made
    for end in made:
        end.close()


def test_messages_are_found_by_number_whether_expected_or_not(ends):
    for id in (5, 3):
        ends[0].send(X + id, message(id))
    early = ends[1].post_recv(message(3)).wait(5)
    late = ends[1].post_recv(message(5)).wait(5)
    assert torch.equal(early, X + 3)
    assert torch.equal(late, X + 5)


def test_a_number_may_come_with_another_type_in_another_program(ends):
    other = torch.arange(6).double().reshape(3, 2).t()
    for x in (X, other, X.double().view(3, 2)):
        ends[0].send(x, message(0, x))
        got = ends[1].post_recv(message(0, x)).wait(5)
        assert torch.equal(got, x) and TensorType.of(got) == TensorType.of(x)


def test_another_number_of_bytes_is_an_error_and_no_wrong_number(ends):
    ends[0].send(X, message(0))
    with pytest.raises(RuntimeError, match=r"24 bytes came, not the 8 of int64\[\]"):
        ends[1].post_recv(message(0, torch.tensor(1))).wait(5)


def test_what_is_received_shares_nothing(ends):
    x = X.clone()
    ends[0].send(x, message(0)).wait(5)
    x.zero_()
    got = ends[1].post_recv(message(0)).wait(5)
    ends[0].send(x, message(1))
    assert torch.equal(got, X)


def test_a_sender_without_room_waits_until_the_other_has_read(ends):
    """And sends in order then, without a call of its own but the wait."""
    x = torch.zeros(LARGEST // 4)
    leaving = [ends[0].send(x + n, message(n, x)) for n in range(8)]
    assert [each.outgoing.left for each in leaving] == [True] * 4 + [False] * 4
    for n in range(4):
        assert ends[1].post_recv(message(n, x)).wait(5)[0] == n
    for each in leaving:
        each.wait(5)
    assert [ends[1].post_recv(message(n, x)).wait(5)[-1].item() for n in range(4, 8)] == [4, 5, 6, 7]


def test_what_waited_for_room_leaves_with_the_next_message(ends):
    """A rank that only computes and sends for a while does not stop the one that reads."""
    x = torch.zeros(LARGEST // 4)
    leaving = [ends[0].send(x + n, message(n, x)) for n in range(6)]
    for n in range(4):
        ends[1].post_recv(message(n, x)).wait(5)
    leaving.append(ends[0].send(x + 6, message(6, x)))
    assert all(each.outgoing.left for each in leaving)
    assert [ends[1].post_recv(message(n, x)).wait(5)[0].item() for n in range(4, 7)] == [4, 5, 6]


def test_many_small_parts_are_reported_before_there_are_too_many(ends):
    for n in range(5 * MOST):
        ends[0].send(X, message(n)).wait(5)
        ends[1].post_recv(message(n)).wait(5)


def test_a_wait_has_an_end(ends):
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        ends[1].post_recv(message(0)).wait(0.05)
    assert 0.05 <= time.monotonic() - began < 2


def test_a_reader_that_waits_for_the_network_still_reads(ends):
    """Rank 1 waits for what rank 0 does only after there was room for all that it sent before."""
    x, sent = torch.zeros(LARGEST // 4), Event()
    leaving = [ends[0].send(x + n, message(n, x)) for n in range(8)]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ends[1].listening.beside, lambda: sent.wait(20), [0])
        for each in leaving:
            each.wait(5)
        sent.set()
        waiting.result()
    assert [ends[1].post_recv(message(n, x)).wait(5)[-1].item() for n in range(8)] == list(range(8))


def test_a_sender_that_waits_for_the_network_still_sends(ends):
    x = torch.zeros(LARGEST // 4)
    leaving = [ends[0].send(x + n, message(n, x)) for n in range(8)]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ends[0].listening.beside, lambda: time.sleep(0.5), [1])
        assert [ends[1].post_recv(message(n, x)).wait(5)[-1].item() for n in range(8)] == list(range(8))
        waiting.result()
    assert all(each.outgoing.left for each in leaving)


def test_an_error_of_the_network_is_raised_where_it_is_waited_for(ends):
    def late():
        raise RuntimeError("timed out")

    with pytest.raises(RuntimeError, match="timed out"):
        ends[0].listening.beside(late, [1])


def test_who_has_hung_up_is_not_waited_for_in_the_network_but_for_what_is_on_its_way(ends, monkeypatch):
    ends[1].listening.hang_up()
    ends[0].listening.beside(lambda: time.sleep(0.1), [1])
    monkeypatch.setattr(listening, "_ON_ITS_WAY", 0.05)
    with pytest.raises(ConnectionResetError, match="the other end has hung up"):
        ends[0].listening.beside(lambda: time.sleep(1), [1])


def test_an_ended_process_needs_no_part_of_a_gathering(ends):
    """Rank 1 laid its own down before; there is not room for all of the last, so that one waits for some."""
    part = torch.zeros(LARGEST, dtype=torch.uint8)
    ends[1].meet(1, [0, 1], part)
    for _ in range(4):
        ends[0].send(part, message(0, part))
    Timer(0.2, ends[1].close).start()
    meeting = ends[0].meet(1, [0, 1], part)
    assert sorted(ends[0].parts(meeting, 5)) == [0, 1]
    with pytest.raises(ConnectionResetError, match="the other end has hung up"):
        ends[0].parts(ends[0].meet(1, [0, 1], part), 5)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_does_not_keep_an_ended_process_alive(ends):
    child, parent = os.pipe()
    if os.fork() == 0:
        os.read(child, 1)
        os._exit(0)
    ends[0].close()
    began = time.monotonic()
    with pytest.raises(ConnectionResetError, match="the other end has hung up"):
        ends[1].told(0, 5)
    assert time.monotonic() - began < 2
    os.write(parent, b"!")
    os.wait()
    os.close(child), os.close(parent)


def fill(channel):
    """Fills a channel's socket with numbers; returns how many."""
    count = 0
    while not channel.records.unsaid:
        channel.tell(count)
        count += 1
    return count


def test_a_report_that_finds_no_room_is_made_up_for(ends):
    """Rank 1's socket is full as it reads, and it has nothing to send later: its next wait says what it has read."""
    x, told = torch.zeros(LARGEST // 4), fill(ends[1].channels[0])
    for n in range(4):
        ends[0].send(x, message(n, x))
        ends[1].post_recv(message(n, x)).wait(5)
    assert len(ends[0].channels[1].parts.used) == 4
    last = ends[0].send(x, message(4, x))
    assert not last.outgoing.left
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ends[1].post_recv(message(4, x)).wait, 5)
        last.wait(5)
        waiting.result()
    assert [ends[0].told(1, 5) for _ in range(told)] == list(range(told))


def test_a_wait_ends_only_when_the_others_can_read_this_ranks_part(ends):
    """Rank 0 computes for long afterwards, or ends: what had no room would come late, or never."""
    mine = [torch.full((3,), rank, dtype=torch.uint8) for rank in range(2)]
    ends[1].meet(1, [0, 1], mine[1])
    fill(ends[0].channels[1])
    meeting = ends[0].meet(1, [0, 1], mine[0])
    with pytest.raises(TimeoutError):
        ends[0].parts(meeting, 0.05)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ends[0].parts, meeting, 5)
        theirs = ends[1].meet(1, [0, 1], mine[1])
        with pytest.raises(TimeoutError):
            ends[1].parts(theirs, 0.2)
        assert sorted(waiting.result()) == [0, 1]


def test_what_had_no_room_leaves_before_a_process_ends(ends):
    """It started something, waits for nothing more, and ends: its neighbour still gets it."""
    part = torch.zeros(LARGEST, dtype=torch.uint8)
    for n in range(4):
        ends[0].send(part, message(n, part))
    ends[0].meet(1, [0, 1], part)
    fill(ends[0].channels[1])
    began = time.monotonic()
    ends[0].listening.flush(0.05)
    assert time.monotonic() - began < 2
    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(ends[0].listening.flush, 5)
        assert sorted(ends[1].parts(ends[1].meet(1, [0, 1], part), 5)) == [0, 1]
        while not ending.done():
            ends[1].listening.take(0.01)
    assert ends[0].channels[1].empty
    ends[0].listening.flush(5)


def test_nobody_waits_until_an_ended_process_can_read(ends):
    ends[1].meet(1, [0, 1], torch.zeros(3, dtype=torch.uint8))
    fill(ends[0].channels[1])
    meeting = ends[0].meet(1, [0, 1], torch.zeros(3, dtype=torch.uint8))
    ends[1].close()
    assert sorted(ends[0].parts(meeting, 5)) == [0, 1]


def test_another_collective_is_an_error_on_both_ranks(ends):
    """Of as many bytes, and whichever comes first."""
    part = torch.zeros(3, dtype=torch.uint8)
    for end in ends:
        end.meet(1, [0, 1], part, form=7)
    meetings = [end.meet(1, [0, 1], part, form=end.rank) for end in ends]
    for end, meeting in zip(ends, meetings, strict=True):
        with pytest.raises(RuntimeError, match=f"number 2 .* global rank {1 - end.rank} started another collective"):
            end.parts(meeting, 5)


def test_another_collective_is_an_error_before_the_last_rank_has_come():
    ends = connected(3)
    meetings = [end.meet(1, [0, 1, 2], torch.zeros(3, dtype=torch.uint8), form=end.rank) for end in ends[:2]]
    with pytest.raises(RuntimeError, match="global rank 1 started another collective"):
        ends[0].parts(meetings[0], 5)
    for end in ends:
        end.close()


def test_what_an_ended_process_sent_is_still_read_and_then_its_end_is_seen(ends):
    ends[1].send(X, message(0, src=1, dst=0))  # that rank 0 has not read: then a socket says "reset" first
    ends[0].send(X, message(1))
    ends[0].close()
    assert torch.equal(ends[1].post_recv(message(1)).wait(5), X)
    with pytest.raises(ConnectionResetError, match="the other end has hung up"):
        ends[1].post_recv(message(2)).wait(5)
    with pytest.raises(OSError, match="Broken pipe"):
        ends[1].send(X, message(3, src=1, dst=0))


def test_who_hangs_up_is_no_longer_waited_for_but_still_hears(ends):
    ends[0].send(X, message(0))
    ends[0].listening.hang_up()
    assert torch.equal(ends[1].post_recv(message(0)).wait(5), X)
    with pytest.raises(ConnectionResetError, match="the other end has hung up"):
        ends[1].told(0, 5)
    ends[1].send(X, message(1, src=1, dst=0))
    assert torch.equal(ends[0].post_recv(message(1, src=1, dst=0)).wait(5), X)


def test_forgotten_gatherings_leave_nothing_behind(ends):
    """Rank 0 is ahead, and reads the fourth alone; rank 1 begins when the others' parts are there."""
    kept = []
    for end in ends:
        for n in range(3):
            end.meet(1, [0, 1], torch.full((3,), n, dtype=torch.uint8))
        kept.append(end.meet(1, [0, 1], torch.full((3,), 7 + end.rank, dtype=torch.uint8)))
    for end, meeting in zip(ends, kept, strict=True):
        assert {rank: part.tolist() for rank, part in end.parts(meeting, 5).items()} == {0: [7] * 3, 1: [8] * 3}
    del kept, meeting
    for end in ends:
        assert not end.meetings.held
        assert not end.meetings.early


def test_a_rank_that_has_nothing_to_say_sends_nothing(ends):
    meetings = [end.meet(1, [0, 1], torch.full((3,), end.rank, dtype=torch.uint8), makers=[1]) for end in ends]
    for end, meeting in zip(ends, meetings, strict=True):
        assert {rank: part.tolist() for rank, part in end.parts(meeting, 5).items()} == {1: [1] * 3}
    assert not ends[0].channels[1].parts.used


def test_numbers_need_no_memory(ends):
    for n in range(-2, 3):
        ends[0].tell(n)
        assert ends[1].told(0, 5) == n
    assert not ends[0].channels[1].parts.used


def test_a_sleeping_reader_is_woken(ends):
    """Nothing to look at again and again: it sleeps, and what is sent wakes it."""
    ends[1].listening.again = 0.0
    timer = Timer(0.2, ends[0].send, (X, message(0)))
    timer.start()
    began = time.thread_time()
    assert torch.equal(ends[1].post_recv(message(0)).wait(5), X)
    assert time.thread_time() - began < 0.1
    timer.join()


def test_several_threads_may_wait(ends):
    """One takes out what the other waits for."""
    for _ in range(20):
        with ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(ends[1].post_recv(message(id)).wait, 5) for id in (0, 1)]
            for id in (1, 0):
                ends[0].send(X + id, message(id))
            assert [torch.equal(found.result(5), X + id) for id, found in enumerate(waiting)] == [True, True]


class Waiting:
    """An end with the methods of a transport."""

    def __init__(self, end):
        self.end, self.rank, self.started = end, end.rank, defaultdict(deque)

    def send(self, tensor, message):
        self.started[message.id].append(self.end.send(tensor, message))

    def post_recv(self, message):
        self.started[message.id].append(self.end.post_recv(message))

    def wait(self, message):
        return self.started[message.id].popleft().wait(20)

    wait_send = wait_recv = wait


@settings(deadline=None, max_examples=30)
@given(plans())
def test_every_order_of_starts_and_waits_delivers(plan):
    made = connected(len(plan))
    with ThreadPoolExecutor(len(plan)) as pool:
        played = [pool.submit(play_order(*orders), Waiting(end)) for orders, end in zip(plan, made, strict=True)]
    for found in played:
        for id, values in found.result().items():
            assert values == [10.0 * id + n + 1 for n in range(len(values))]
    for end in made:
        end.close()


def test_a_full_socket_delays_messages_and_numbers_and_loses_none(ends):
    """Others' records may fill it: what comes after them leaves while this rank waits for something."""
    ends[0].send(X, message(0))
    count = fill(ends[0].channels[1])
    later = [ends[0].send(X + n, message(n)) for n in (1, 2)]
    ends[0].tell(count)
    assert not ends[0].channels[1].gone()
    with pytest.raises(TimeoutError):
        later[0].wait(0.05)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: [each.wait(5) for each in later])
        assert [ends[1].told(0, 5) for _ in range(count + 1)] == list(range(count + 1))
        waiting.result()
    for n in range(3):
        assert torch.equal(ends[1].post_recv(message(n)).wait(5), X + n)
