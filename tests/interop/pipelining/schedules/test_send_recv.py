import copy

import pytest
from hypothesis import given
from torch.distributed.pipelining import schedules as theirs

from funpipe import FunpipeError
from funpipe.interop.pipelining.schedules import _add_send_recv
from tests.interop.pipelining.schedules.grids import Grid, any_grid, every_grid
from tests.interop.pipelining.schedules.made import as_text, as_theirs, rows


def of_torch(grid):
    return theirs._add_send_recv(as_theirs(grid.rows), grid.rank_of, grid.num_stages)


@every_grid
def test_rows_are_those_of_torch(name, p, m):
    grid = Grid(name, p, m)
    assert as_text(_add_send_recv(grid.rows, grid.rank_of, grid.num_stages)) == as_text(of_torch(grid))


@given(any_grid)
def test_any_rows_become_those_of_torch(grid):
    assert as_text(_add_send_recv(grid.rows, grid.rank_of, grid.num_stages)) == as_text(of_torch(grid))


@given(any_grid)
def test_rows_are_left_as_they_are(grid):
    """torch empties them."""
    before = copy.deepcopy(grid.rows)
    _add_send_recv(grid.rows, grid.rank_of, grid.num_stages)
    assert grid.rows == before


def test_other_actions_are_kept():
    found = _add_send_recv(rows("0UNSHARD 0F0 0RESHARD", "1UNSHARD 1F0"), lambda stage: stage, 2)
    assert found == rows("0UNSHARD 0F0 0SEND_F0 0RESHARD", "1UNSHARD 1RECV_F0 1F0")


def test_ranks_that_wait_for_each_other_are_refused():
    with pytest.raises(AssertionError, match=r"Malformed compute schedule, can't schedule sends/recvs: 0B0 on rank 0"):
        _add_send_recv(rows("0B0 0F0", "1F0 1B0"), lambda stage: stage, 2)


def test_a_message_to_a_rank_without_a_row_is_refused():
    """torch raises KeyError."""
    with pytest.raises(AssertionError, match="0SEND_F0 goes to rank 1, which has no row") as raised:
        _add_send_recv(rows("0F0"), lambda stage: stage, 2)
    assert isinstance(raised.value, FunpipeError)
