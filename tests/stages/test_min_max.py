import time

import numpy as np
import pytest
from hypothesis import given, settings

from funpipe.stages.corners import Corners, counted
from funpipe.stages.grid import NEVER
from funpipe.stages.min_max import Limits, least_memory, min_max, slowest
from tests.stages.grids import cases, each, grid_of


@given(cases(shared=False))
@settings(deadline=None)
def test_it_is_the_best_of_all_partitions(case):
    def rank(bounds):
        return case.slowest(bounds), int(case.grid.stages(bounds).received.sum()), bounds

    fit = [bounds for bounds in case.partitions() if case.fullest(bounds) <= case.limit]
    assert min_max(case.grid, Limits(case.limit, case.held.in_flight)) == min(fit, key=rank, default=None)


@given(cases(shared=False))
@settings(deadline=None)
def test_the_least_memory_is_that_of_all_partitions(case):
    least = min(map(case.fullest, case.partitions()))
    assert case.fullest(least_memory(case.grid, case.held.in_flight)) == least


def test_fewer_bytes_win_among_equals():
    grid = grid_of([0, 0, 0], [counted([1], 5, after=0), counted([2], 4, after=1)])
    free = Corners.of(3, [])
    assert min_max(grid, Limits.none(2)) == (0, 2, 3)
    assert min_max(grid_of([0, 0, 0]), Limits.none(2)) == (0, 1, 3) and not free.dense().any()


def test_what_a_stage_may_hold_depends_on_its_microbatches_in_flight():
    grid = grid_of([1] * 4, saved=[1] * 4)
    assert min_max(grid, Limits(3, np.array([3, 1]))) == (0, 1, 4)
    assert min_max(grid, Limits(3, np.array([1, 3]))) == (0, 3, 4)
    assert min_max(grid, Limits(2, np.array([3, 1]))) is None


def long_line(size: int):
    """Repeated layers of ten segments, with a large one at the end and a received value over each layer."""
    work = [int(w) for w in np.random.default_rng(0).integers(1, 1000, size)]
    work[-1] *= 100
    received = [counted([i + 1, min(i + 8, size - 1)], 10, after=i) for i in range(size - 9)]
    return grid_of(work, received, each_resident(size))


def each_resident(size: int) -> list[int]:
    return [1 + i % 7 for i in range(size)]


def test_a_bound_from_a_coarser_line_changes_nothing(monkeypatch):
    grid = long_line(600)
    bounded = min_max(grid, Limits.none(4))
    monkeypatch.setattr("funpipe.stages.min_max.COARSE", 10**6)
    assert min_max(grid, Limits.none(4)) == bounded


def test_a_line_of_20000_segments_is_cut_in_seconds():
    grid = long_line(20_000)
    start = time.perf_counter()
    found = min_max(grid, Limits.none(16))
    assert time.perf_counter() - start < 10  # 0.2 s on a quiet machine
    assert found is not None and len(found) == 17


def test_no_partition_is_found_where_there_is_none():
    assert slowest(grid_of([1, 1], resident=[5, 9]), Limits(8, np.array([1, 1]))) is None


@pytest.mark.parametrize("parts", [1, 3])
def test_a_limit_that_nothing_reaches_is_none(parts):
    grid = grid_of([3, 1, 2], resident=[1, 1, 1])
    assert min_max(grid, Limits(NEVER - 1, np.ones(parts, np.int64))) == min_max(grid, Limits.none(parts))


def test_each_segment_counts_in_every_part_that_has_it():
    assert Corners.of(2, each([5, 7])).dense()[0, 2] == 12
