"""Large parts that are lent: every rank reads every part, whatever the order, and blocks come back from all readers."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from funpipe.runtime.transports import lending, records
from funpipe.runtime.transports.blocks import LEAST
from tests.runtime.test_shared_memory import connected

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory without a name is there on Linux only")

N = 3 * LEAST


@pytest.fixture
def ends():
    made = connected(3)
    yield made
    for end in made:
        end.close()


def lend(end, value, nbytes=N):
    return lending.lend(end, 1, [0, 1, 2], nbytes, lambda raw: raw.fill_(value))


def read(end, meeting):
    """The first byte of each rank's part."""
    parts = end.parts(meeting, 5)
    assert all(part.unique().numel() == 1 for part in parts.values())
    found = [int(parts[rank][0]) for rank in sorted(parts)]
    lending.give_back(end, meeting)
    return found


def test_every_rank_reads_every_part(ends):
    for step in range(3):
        meetings = [lend(end, 10 * step + end.rank) for end in ends]
        assert [read(*pair) for pair in zip(ends, meetings, strict=True)] == [[10 * step + n for n in range(3)]] * 3


def test_a_block_is_used_again_in_the_next_step(ends):
    for step in range(5):
        for end, meeting in [(end, lend(end, step)) for end in ends]:
            read(end, meeting)
    assert [len(end.blocks.all) for end in ends] == [1, 1, 1]


def test_a_part_stays_until_all_have_read_it(ends):
    """Rank 2 reads late: the others have gone on, through other blocks."""
    slow = lend(ends[2], 2)
    for step in range(3):
        first, second = lend(ends[0], 10 + step), lend(ends[1], 20 + step)
        lend(ends[2], 30 + step) if step else None
        assert read(ends[0], first)[:2] == read(ends[1], second)[:2] == [10 + step, 20 + step]
    assert read(ends[2], slow) == [10, 20, 2]
    assert [len(end.blocks.all) for end in ends[:2]] == [3, 3]


def test_parts_of_several_sizes_wait_in_any_order(ends):
    """Collectives from two steps, and small blocks between large ones."""
    sizes = [N, 100, 5 * N, LEAST]
    meetings = [[lend(end, 10 * n + end.rank, size) for n, size in enumerate(sizes)] for end in ends]
    for n in (2, 0, 3, 1):
        for end, mine in zip(ends, meetings, strict=True):
            assert read(end, mine[n]) == [10 * n, 10 * n + 1, 10 * n + 2]


def test_what_nobody_waits_for_is_returned(ends):
    for step in range(4):
        for end in ends:
            lend(end, step)  # dropped at once
    made = [len(end.blocks.all) for end in ends]
    for step in range(20):
        for end, meeting in [(end, lend(end, step)) for end in ends]:
            assert read(end, meeting) == [step] * 3
    assert [len(end.blocks.all) for end in ends] == made
    free = [block for block in ends[2].blocks.all if block.readers == 0]
    assert len(free) >= made[2] - 1


def test_a_full_socket_stops_nobody(ends):
    """Ranks 1 and 2 read nothing for long; rank 0 goes on, and says the rest while it waits."""
    count = 400
    mine = [lend(ends[0], n % 200, 10) for n in range(count)]
    assert ends[0].channels[1].records.unsaid
    theirs = [[lend(end, n % 200, 10) for n in range(count)] for end in ends[1:]]
    with ThreadPoolExecutor(3) as pool:
        found = pool.map(lambda end, meetings: [read(end, m) for m in meetings], ends, [mine, *theirs])
        assert list(found) == [[[n % 200] * 3 for n in range(count)]] * 3


def test_a_wait_has_an_end_and_names_who_is_late(ends):
    meeting = lend(ends[0], 1)
    lend(ends[1], 1)
    with pytest.raises(TimeoutError, match=r"0.05 s without a word from global ranks \[1, 2\]"):
        ends[0].parts(meeting, 0.05)


def test_an_ended_neighbour_ends_the_wait_but_what_it_lent_is_read(ends):
    first, second = lend(ends[0], 1), lend(ends[0], 2)
    lend(ends[1], 1), lend(ends[2], 1)
    ends[1].close()
    assert read(ends[0], first) == [1, 1, 1]
    with pytest.raises(ConnectionResetError, match="the other end has hung up"):
        ends[0].parts(second, 5)


def test_memory_has_no_name_and_its_descriptors_are_closed():
    before = len(os.listdir("/proc/self/fd"))
    made = connected(2)
    meetings = [lending.lend(end, 1, [0, 1], N, lambda raw: raw.zero_()) for end in made]
    for end, meeting in zip(made, meetings, strict=True):
        end.parts(meeting, 5)
    maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if "memfd:funpipe" in line]
    assert maps and all("(deleted)" in line for line in maps)
    for end in made:
        end.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_group_of_some_ranks_keeps_no_descriptors(ends):
    for end in ends:
        end.listening.take()
    before = len(os.listdir("/proc/self/fd"))
    for end in ends[:2]:
        end.kept = [lending.lend(end, 2, [0, 1], N, lambda raw: raw.zero_()) for _ in range(5)]
    for end in ends[:2]:
        for meeting in end.kept:
            end.parts(meeting, 5)
    assert [len(end.blocks.all) for end in ends] == [5, 5, 0]
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_lent_part_and_a_copied_one_do_not_meet(ends):
    """A rank that gives many bytes where the others give few."""
    part = torch.zeros(10, dtype=torch.uint8)
    meetings = [lend(ends[0], 1), ends[1].meet(1, [0, 1, 2], part, form=5), ends[2].meet(1, [0, 1, 2], part, form=5)]
    for rank, odd in ((0, 1), (1, 0), (2, 0)):
        with pytest.raises(RuntimeError, match=f"global rank {odd} started another collective"):
            ends[rank].parts(meetings[rank], 5)


def test_a_block_that_cannot_be_mapped_is_an_error(ends, monkeypatch):
    meeting = lend(ends[0], 1)
    lend(ends[1], 1)
    monkeypatch.setattr(records.socket, "recv_fds", lambda connection, size, _: (connection.recv(size), [], 0, None))
    with pytest.raises(OSError, match=r"block 0 came without a descriptor: .* no more files \(ulimit -n\)"):
        ends[0].parts(meeting, 5)


def test_a_system_without_shared_memory_can_import_it():
    """What Linux alone has is looked for when it is used."""
    code = "import select; del select.epoll; import funpipe.runtime.transports"
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
