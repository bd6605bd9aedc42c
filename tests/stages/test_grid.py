"""The amounts of all parts of a line."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funpipe.stages import corners, grid
from funpipe.stages.corners import counted
from funpipe.stages.grid import NEVER
from tests.stages.grids import cases, grid_of


def part_by_part(line, low, high):
    """Time, received, resident and saved of one part: that of the partition that has it as a stage."""
    bounds = sorted({0, low, high, line.size})
    stages, where = line.stages(bounds), bounds.index(low)
    return tuple(int(a[where]) for a in (stages.time, stages.received, stages.resident, stages.saved))


@given(cases(shared=False))
@settings(max_examples=50, deadline=None)
def test_blocks_hold_what_stages_do(case):
    line = case.grid
    rows = np.ones(line.size + 1, bool)
    (block,) = line.blocks(line.reach(NEVER - 1, NEVER - 1), rows)
    for low in range(line.size):
        for high in range(low + 1, line.size + 1):
            found = (block.time, block.received, block.resident, block.saved)
            assert tuple(int(a[low, high]) for a in found) == part_by_part(line, low, high)


def test_blocks_without_a_row_are_left_out(monkeypatch):
    monkeypatch.setattr(grid, "ROWS", 2)
    monkeypatch.setattr(corners, "ROWS", 2)
    line = grid_of([1, 2, 3, 4, 5])
    rows = np.array([True, False, False, False, True, False])
    blocks = list(line.blocks(np.array([2, 3, 4, 5, 5, 5]), rows))
    assert [block.first for block in blocks] == [4, 0]
    assert blocks[1].time[0].tolist() == [0, 1, 3, 6]  # up to where a part from row 1 may end


def test_a_part_takes_its_work_and_its_transfers():
    """A message takes a tick, and two a byte (`grid_of`)."""
    line = grid_of([3, 4, 5], [counted([1], 6, after=0)])
    assert line.stages((0, 1, 3)).time.tolist() == [3, 4 + 5 + 13]
    assert line.stages((0, 2, 3)).time.tolist() == [7, 5]


def test_among_keeps_the_amounts_between_the_boundaries():
    line = grid_of([1, 2, 3, 4], [counted([2], 5, after=0)], [5, 6, 7, 8], [1, 1, 2, 2])
    few = line.among(np.array([0, 2, 4]))
    assert few.size == 2
    for name in ("time", "received", "resident", "saved"):
        assert getattr(few.stages((0, 1, 2)), name).tolist() == getattr(line.stages((0, 2, 4)), name).tolist()
    assert few.done.tolist() == [0, 3, 10] and few.kept.tolist() == [0, 11, 26]


def test_the_times_of_all_parts_each_once_ascending():
    assert grid_of([1, 2, 1]).times().tolist() == [1, 2, 3, 4]


def test_too_many_times_are_not_listed(monkeypatch):
    monkeypatch.setattr(grid, "LISTED", 2)
    assert grid_of([1, 2]).times() is not None and grid_of([1, 2, 1]).times() is None


@pytest.mark.parametrize(
    ("ticks", "nbytes", "expected"),
    [
        (NEVER, NEVER, [4, 4, 4, 4, 4]),
        (3, NEVER, [2, 3, 3, 4, 4]),
        (NEVER, 2, [2, 3, 4, 4, 4]),
        (0, NEVER, [1, 2, 3, 4, 4]),  # a part has a segment, even if it is too slow
    ],
)
def test_how_far_a_part_can_go(ticks, nbytes, expected):
    assert grid_of([1, 2, 1, 3], resident=[1] * 4).reach(ticks, nbytes).tolist() == expected


@given(cases(shared=False), st.integers(0, 40), st.integers(0, 40))
@settings(deadline=None)
def test_no_part_beyond_the_reach_keeps_the_limits(case, ticks, nbytes):
    line, reach = case.grid, case.grid.reach(ticks, nbytes)
    assert (np.diff(reach) >= 0).all()
    for low in range(line.size):
        for high in range(int(reach[low]) + 1, line.size + 1):
            time, _, resident, _ = part_by_part(line, low, high)
            assert time > ticks or resident > nbytes
