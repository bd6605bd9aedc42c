"""The time of a message; between ranks of one process, because the numbers are not what is tested."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from funpipe.planning import measured_link
from funpipe.planning.measured_link import FIRST, LARGE, SMALL, link_of
from funpipe.runtime.transports import InProcess


def test_without_a_transport_a_message_is_a_copy():
    latency, bandwidth = link_of(None)
    assert 0 < latency < 1e-3 and 1e8 < bandwidth < 1e13


def test_the_transport_of_a_rank_alone_is_not_asked():
    assert link_of(InProcess(1).endpoint(0), 1)[0] > 0


class Noting:
    """A rank's end that notes what is asked of it."""

    def __init__(self, end):
        self.end, self.rank, self.noted = end, end.rank, []

    def open(self, messages):
        self.noted.append(("open", [(m.id, m.src, m.dst, m.type.nbytes) for m in messages]))
        self.end.open(messages)

    def __getattr__(self, name):
        def call(*args):
            self.noted.append((name, args[-1].id))
            return getattr(self.end, name)(*args)

        return call


@pytest.fixture(scope="module")
def ranks():
    """Three ranks: what each found, and what it asked of its transport."""
    hub = InProcess(3, timeout=60)
    ends = [Noting(hub.endpoint(rank)) for rank in range(3)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda end: link_of(end, 3), ends))
    return found, [end.noted for end in ends]


def test_the_first_two_ranks_send_there_and_back(ranks):
    (first, second, third), noted = ranks
    assert all(0 < latency < 1 and bandwidth > 0 for latency, bandwidth in (first, second))
    assert third[0] == 0 and len(noted[2]) == 1
    sent = {message for name, message in noted[0] + noted[1] if name == "send"}
    assert sent == {FIRST, FIRST + 1, FIRST + 2, FIRST + 3}


def test_all_ranks_open_the_ways_before_the_first_message(ranks):
    sizes = [(SMALL, 0), (LARGE, 2)]
    expected = [(FIRST + n + k, k, 1 - k, nbytes) for nbytes, n in sizes for k in (0, 1)]
    for noted in ranks[1]:
        assert noted[0] == ("open", expected)
        assert [name for name, _ in noted].count("open") == 1


def test_a_bandwidth_is_what_the_larger_message_takes_longer(monkeypatch):
    times = iter([2e-6, 2e-6 + LARGE / 5e9])
    monkeypatch.setattr(measured_link, "seconds", lambda call, device: next(times))
    latency, bandwidth = link_of(None)
    assert latency == 2e-6 and bandwidth == pytest.approx(5e9)
