import copy
from collections import defaultdict

import pytest
from hypothesis import given
from torch.distributed.pipelining import schedules as theirs

from funpipe.interop.pipelining.schedules import _add_send_recv, _defer_recv_ops, _simulate_comms_compute
from funpipe.interop.pipelining.schedules.computation_type import RECEIVES, SENDS
from funpipe.interop.pipelining.schedules.messages import other_end, peer_of
from tests.interop.pipelining.schedules.grids import Grid, any_grid, every_grid
from tests.interop.pipelining.schedules.made import as_text, as_theirs, rows


def with_messages(grid):
    return _add_send_recv(grid.rows, grid.rank_of, grid.num_stages)


def swapped(found, rank_of):
    """Whether two messages are received in another order than sent; receives do not say which one they want."""
    sent, received = defaultdict(list), defaultdict(list)
    for rank, row in found.items():
        for action in row:
            if action.computation_type in SENDS:
                sent[rank, rank_of(peer_of(action))].append(other_end(action))
            if action.computation_type in RECEIVES:
                received[rank_of(peer_of(action)), rank].append(action)
    return sent != received


@every_grid
def test_rows_are_those_of_torch_unless_these_swap_messages(name, p, m):
    grid = Grid(name, p, m)
    lowered = with_messages(grid)
    found = _defer_recv_ops(lowered, grid.rank_of)
    expected = theirs._defer_recv_ops(as_theirs(lowered), grid.rank_of)
    read = {rank: rows(" ".join(map(str, row)))[0] for rank, row in expected.items()}
    assert not swapped(found, grid.rank_of)
    assert (as_text(found) == as_text(expected)) == (not swapped(read, grid.rank_of))


@given(any_grid)
def test_nothing_is_lost_and_no_message_swapped(grid):
    lowered = with_messages(grid)
    found = _defer_recv_ops(lowered, grid.rank_of)
    assert {rank: sorted(as_text(row)) for rank, row in found.items()} == {
        rank: sorted(as_text(row)) for rank, row in lowered.items()
    }
    assert not swapped(found, grid.rank_of)


@every_grid
def test_it_still_runs(name, p, m):
    grid = Grid(name, p, m)
    _simulate_comms_compute(_defer_recv_ops(with_messages(grid), grid.rank_of), grid.rank_of, grid.num_stages)


def test_a_lower_rank_receives_before_it_sends():
    lower, higher = "1RECV_B0 1F1 1SEND_F1 1B0", "2RECV_F1 2B0 2SEND_B0 2F1"
    found = _defer_recv_ops({1: rows(lower)[0], 2: rows(higher)[0]}, lambda stage: stage)
    assert as_text(found) == {1: ["1F1", "1RECV_B0", "1SEND_F1", "1B0"], 2: ["2B0", "2SEND_B0", "2RECV_F1", "2F1"]}


def test_a_receive_that_nothing_needs_is_refused():
    with pytest.raises(AssertionError, match=r"rank 0: leftover RECV ops with no consumer found: \[0RECV_B0\]"):
        _defer_recv_ops(rows("0RECV_B0 0F0"), lambda stage: stage)


def test_rows_are_left_as_they_are():
    lowered = with_messages(Grid("ScheduleZBVZeroBubble", 2, 4))
    before = copy.deepcopy(lowered)
    _defer_recv_ops(lowered, lambda stage: stage % 2)
    assert lowered == before
