import math

import pytest

from funpipe._errors import ScheduleError
from funpipe.schedules import Communication, GPipe, OneFOneB, Table, Task, simulate


def makespan(table, **communication):
    return simulate(table, communication=Communication(**communication)).makespan


def test_a_message_takes_its_latency_and_its_bytes():
    table = GPipe().table(2, 1)
    assert makespan(table, latency=0.5) == simulate(table, latency=0.5).makespan == 6.0 + 2 * 0.5
    assert makespan(table, bytes=6.0, bandwidth=4.0) == 6.0 + 2 * 1.5
    assert makespan(table, bytes=6.0, bytes_back=2.0, bandwidth=4.0) == 6.0 + 1.5 + 0.5


def test_each_boundary_may_have_its_own():
    table = GPipe().table(3, 1)
    far = {"latency": [0.0, 1.0], "bytes": [1.0, 2.0], "bytes_back": [0.0, 4.0], "bandwidth": [1.0, 2.0]}
    assert makespan(table, **far) == 9.0 + (1 + 2) + (3 + 0)


# One microbatch after the other needs 3 for its message, and the messages have one line: they come at 4, 7, 10.
def test_bytes_queue_and_latency_does_not():
    rows = [[Task("F", stage, i) for i in range(3)] for stage in range(2)]
    table = Table.from_rows(rows, placement=(0, 1), num_microbatches=3)
    queue = simulate(table, communication=Communication(bytes=3.0, bandwidth=1.0))
    assert queue.arrival[0].tolist() == [4.0, 7.0, 10.0]
    assert queue.start[1].tolist() == [4.0, 7.0, 10.0]
    assert simulate(table, latency=3.0).start[1].tolist() == [4.0, 5.0, 6.0]


def test_forward_and_backward_have_lines_of_their_own():
    table = OneFOneB().table(2, 2)
    sim = simulate(table, communication=Communication(bytes=2.0, bandwidth=1.0))
    assert sim.arrival[0].tolist()[:2] == [3.0, 5.0]
    last = sim.arrival[1][~(sim.arrival[1] != sim.arrival[1])].tolist()
    assert last == [3.0 + 3.0 + 2.0, 6.0 + 3.0 + 2.0]


# A V on two ranks: what stage 0 sends forward and what stage 3 sends back go from rank 0 to rank 1 on one line.
def test_boundaries_between_the_same_ranks_share_a_line():
    rows = [["0F0", "3F0", "3B0", "0F1"], ["1F0", "2F0", "2B0", "1F1"]]
    rest = [["3F1", "3B1", "0B0", "0B1"], ["2F1", "2B1", "1B0", "1B1"]]
    tasks = [[Task.parse(text) for text in (*one, *two)] for one, two in zip(rows, rest, strict=True)]
    table = Table.from_rows(tasks, placement=(0, 1, 1, 0), num_microbatches=2)
    sim = simulate(table, B=1.0, communication=Communication(bytes=5.0, bandwidth=1.0))
    back, forward = sim.end[0, 2], sim.end[0, 3]
    assert forward == back + 1.0
    assert sim.arrival[0, 2:4].tolist() == [back + 5.0, back + 10.0]


# Not overlapped:   rank 0 | 0F0 send .   .   .   .   recv 0B0 0B0
#                   rank 1 | .   recv 1F0 1B0 1B0 send
def test_without_overlap_both_ranks_are_busy():
    sim = simulate(GPipe().table(2, 1), communication=Communication(latency=1.0, overlap=False))
    tasks = [sim.start[0, 0], sim.start[1, 1], sim.start[1, 2], sim.start[0, 3]]
    assert tasks == [0.0, 2.0, 3.0, 6.0]
    assert sim.arrival[0, 0] == 2.0
    assert sim.makespan == 8.0


def test_a_send_delays_the_senders_next_task_only_if_it_is_not_overlapped():
    table = GPipe().table(2, 2)
    for overlap, second in ((True, 1.0), (False, 3.0)):
        sim = simulate(table, communication=Communication(bytes=2.0, bandwidth=1.0, overlap=overlap))
        assert sim.start[0, 1] == second


def test_within_a_rank_nothing_is_paid():
    rows = [[Task(kind, stage, 0) for kind, stage in (("F", 0), ("F", 1), ("B", 1), ("B", 0))]]
    table = Table.from_rows(rows, placement=(0, 0), num_microbatches=1)
    for overlap in (True, False):
        sim = simulate(table, communication=Communication(latency=5.0, bytes=5.0, bandwidth=1.0, overlap=overlap))
        assert sim.makespan == 6.0
        assert all(map(math.isnan, sim.arrival[0]))


def test_only_what_goes_to_another_rank_arrives():
    sim = simulate(GPipe().table(2, 1), latency=0.5)
    assert sim.arrival[0, 0] == 1.5
    assert sim.arrival[1, 2] == sim.end[1, 2] + 0.5
    assert math.isnan(sim.arrival[1, 1])  # the last forward
    assert math.isnan(sim.arrival[0, 3])  # the last backward


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"latency": [1.0]}, r"latency has shape \(1,\); pass one number, or 2, one for each boundary"),
        ({"bytes": [1.0, -1.0]}, r"bytes=\[1.0, -1.0\]; pass numbers that are finite and not negative"),
        ({"bytes_back": [1.0] * 3}, r"bytes_back has shape \(3,\)"),
        ({"bandwidth": 0.0}, "bandwidth=0.0; pass bytes per unit of time, above 0"),
        ({"bandwidth": float("nan")}, "bandwidth=nan; pass bytes"),
        ({"bandwidth": [1.0]}, r"bandwidth has shape \(1,\)"),
    ],
)
def test_bad_numbers_are_named(numbers, message):
    with pytest.raises(ScheduleError, match=message):
        makespan(GPipe().table(3, 2), **numbers)
