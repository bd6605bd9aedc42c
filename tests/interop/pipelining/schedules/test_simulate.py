import copy

import pytest
from hypothesis import given
from torch.distributed.pipelining import schedules as theirs

from funpipe import FunpipeError
from funpipe.interop.pipelining.schedules import _add_send_recv, _simulate_comms_compute
from tests.interop.pipelining.schedules.grids import Grid, any_grid, every_grid
from tests.interop.pipelining.schedules.made import MULTI, as_text, as_theirs, made, rows


def simulated(found, grid):
    return _simulate_comms_compute(found, grid.rank_of, grid.num_stages)


@every_grid
def test_the_steps_are_those_of_torch_where_nothing_overlaps(name, p, m):
    """torch knows no overlap: KeyError -1."""
    grid = Grid(name, p, m)
    lowered = _add_send_recv(grid.rows, grid.rank_of, grid.num_stages)
    found = simulated(lowered, grid)
    if "OVERLAP" not in str(lowered):
        assert as_text(found) == as_text(
            theirs._simulate_comms_compute(as_theirs(lowered), grid.rank_of, grid.num_stages)
        )
    assert {r: [a for a in row if a] for r, row in found.items()} == lowered


@given(any_grid)
def test_any_rows_run_whole_and_in_order(grid):
    lowered = _add_send_recv(grid.rows, grid.rank_of, grid.num_stages)
    assert {r: [a for a in row if a] for r, row in simulated(lowered, grid).items()} == lowered


@pytest.mark.parametrize("name", MULTI)
@pytest.mark.parametrize("defer_pp_recv", [False, True])
def test_every_schedule_simulates_itself(name, defer_pp_recv):
    """torch raises for each of them: UNSHARD is unknown to it."""
    schedule = made(name, 3, 6, defer_pp_recv=defer_pp_recv)
    found = schedule._simulate()
    assert {r: [a for a in row if a] for r, row in found.items()} == schedule.pipeline_order_with_comms


def test_an_overlap_waits_for_both_of_its_parts():
    lines = ("0F0 0SEND_F0 0RECV_B0 (0F1;0B0)OVERLAP_F_B", "1RECV_F0 1F0 1B0 1SEND_B0")
    found = _simulate_comms_compute(rows(*lines), lambda stage: stage, 2)
    assert as_text(found[0]) == ["0F0", "0SEND_F0", ".", ".", "0RECV_B0", "(0F1;0B0)OVERLAP_F_B"]


def test_an_overlap_makes_what_its_parts_make():
    found = _simulate_comms_compute(rows("0F0 1F0 (0F1;1B0)OVERLAP_F_B 0B0 1F1"), lambda stage: 0, 2)
    assert found == rows("0F0 1F0 (0F1;1B0)OVERLAP_F_B 0B0 1F1")


def test_a_receive_shares_the_step_of_its_send():
    found = _simulate_comms_compute(rows("0F0 0SEND_F0 0RECV_B0", "1RECV_F0 1F0 1B0 1SEND_B0"), lambda s: s, 2)
    assert found == rows("0F0 0SEND_F0 . . 0RECV_B0", ". 1RECV_F0 1F0 1B0 1SEND_B0")


def test_ranks_that_wait_for_ever_are_named():
    with pytest.raises(ValueError, match=r"(?s)Schedule is not progressing.*0F0.*rank=1 next action= 1RECV_F0") as e:
        _simulate_comms_compute(rows("0F0", "1RECV_F0 1F0"), lambda stage: stage, 2)
    assert isinstance(e.value, FunpipeError)


def test_rows_are_left_as_they_are():
    given_rows = rows("0F0 0SEND_F0", ". 1RECV_F0 1F0")
    before = copy.deepcopy(given_rows)
    _simulate_comms_compute(given_rows, lambda stage: stage, 2)
    assert given_rows == before
