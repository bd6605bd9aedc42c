"""The best ways to cut the rest of a line, against all ways."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings

from funpipe.stages import corners, suffixes
from funpipe.stages.grid import NEVER
from tests.stages.grids import cases, grid_of


def time_of(block, stages):
    """The same for every stage."""
    return block.time[None]


def held_by(in_flight):
    """What a part holds as each of the stages."""
    return lambda block, stages: block.resident + in_flight[stages, None, None] * block.saved


def rests(low, size, count):
    """All ways to cut a line from a boundary to its end into some parts."""
    return [(low, *inner, size) for inner in combinations(range(low + 1, size), count - 1)] if count else []


def computed(grid, parts, step, combine):
    reach = grid.reach(NEVER - 1, NEVER - 1)
    return suffixes.suffixes(grid, reach, suffixes.windows(reach, parts), step, combine)


@pytest.mark.parametrize("rows", [1, 3, 32])
@given(case=cases(shared=False))
@settings(max_examples=40, deadline=None)
def test_the_slowest_part_is_as_fast_as_in_any_way_to_cut(rows, case):
    """For every suffix that the whole line can have, however many rows a block has."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (suffixes, corners):
            patch.setattr(module, "ROWS", rows)
        patch.setattr("funpipe.stages.grid.ROWS", rows)
        line, parts = case.grid, len(case.held.ranks)
        found = computed(line, parts, time_of, np.maximum)
    assert found.best == min(map(case.slowest, case.partitions()))
    for count in range(1, parts):
        for low in range(parts - count, line.size - count + 1):
            every = [(0, *rest) if rest[0] else rest for rest in rests(low, line.size, count)]
            expected = min(int(line.stages(bounds).time[-count:].max()) for bounds in every)
            assert found.least[count, low] == expected


@given(cases(shared=False))
@settings(max_examples=40, deadline=None)
def test_sums_may_depend_on_the_stage(case):
    found = computed(case.grid, len(case.held.ranks), held_by(case.held.in_flight), np.add)
    assert found.best == min(int(case.held(bounds).sum()) for bounds in case.partitions())
    assert found.best == int(case.held(found.bounds).sum())


def test_of_several_the_first_boundary_is_taken():
    assert computed(grid_of([1, 0, 0, 1]), 2, time_of, np.maximum).bounds == (0, 1, 4)


def test_where_no_stage_can_be_a_part_there_is_none():
    found = computed(grid_of([1, 2, 3]), 2, lambda block, stages: np.full_like(block.time, NEVER)[None], np.maximum)
    assert found.best == NEVER


def test_windows_are_where_a_suffix_can_begin():
    """Three parts of at most two segments of a line of four; nothing is said of what is left before a suffix."""
    allowed = suffixes.windows(np.array([2, 3, 4, 4, 4]), 3)
    assert [np.flatnonzero(row).tolist() for row in allowed] == [[4], [2, 3], [0, 1, 2], [0]]


@given(cases(shared=False))
@settings(max_examples=40, deadline=None)
def test_no_partition_begins_a_suffix_outside_its_window(case):
    count = len(case.held.ranks)
    for ticks in (NEVER - 1, case.slowest(case.partitions()[0])):
        reach = case.grid.reach(ticks, NEVER - 1)
        allowed = suffixes.windows(reach, count)
        for bounds in case.partitions():
            if all(high <= reach[low] for low, high in zip(bounds, bounds[1:], strict=False)):
                assert all(allowed[count - k, bounds[k]] for k in range(count + 1))
