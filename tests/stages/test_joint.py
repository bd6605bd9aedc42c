"""Ranks of several stages under a limit: what the search finds is the best of all partitions."""

import numpy as np
import pytest
from hypothesis import given, settings

from funpipe.stages import joint
from funpipe.stages.grid import NEVER
from funpipe.stages.held import Held, Leaf
from funpipe.stages.labels import Bound, follow
from funpipe.stages.suffixes import windows
from tests.stages.grids import cases, grid_of

examples = settings(max_examples=60, deadline=None)


@given(cases(shared=True))
@examples
def test_it_is_the_fastest_of_all_partitions(case):
    fit = [bounds for bounds in case.partitions() if case.fullest(bounds) <= case.limit]
    found = joint.fastest(case.held, case.limit, 0)
    if fit:
        assert case.fullest(found) <= case.limit and case.slowest(found) == min(map(case.slowest, fit))
    else:
        assert found is None


@given(cases(shared=True))
@examples
def test_the_fullest_rank_holds_as_little_as_in_any_partition(case):
    assert case.fullest(joint.smallest(case.held)) == min(map(case.fullest, case.partitions()))


@given(cases(shared=True))
@examples
def test_labels_alone_decide_without_bounds(case):
    allowed = windows(case.grid.reach(NEVER - 1, case.limit), len(case.held.ranks))
    nothing = Bound(np.zeros(case.held.num_ranks, np.int64), np.zeros(allowed.shape, np.int64))
    found = follow(case.held, allowed, [nothing], case.limit, NEVER - 1)
    least = min(map(case.fullest, case.partitions()))
    assert (found is not None) == (least <= case.limit)
    assert found is None or case.fullest(found) <= case.limit


def test_the_stages_of_a_rank_share_its_memory():
    """A rank may hold 6: stages 0 and 2 together, so that the cut after two segments each does not fit."""
    grid = grid_of([1] * 6, resident=[2, 2, 1, 1, 2, 2])
    held = Held(grid, np.zeros(3, np.int64), (0, 1, 0))
    assert held((0, 2, 4, 6)).tolist() == [8, 2]
    found = joint.fastest(held, 6, 0)
    assert found is not None and max(held(found)) <= 6 and grid.stages(found).time.max() == 3


@pytest.mark.parametrize("limit", [5, 6])
def test_a_leaf_of_two_stages_of_one_rank_counts_once(limit):
    grid = grid_of([1, 1, 1], resident=[5, 0, 0])
    held = Held(grid, np.zeros(3, np.int64), (0, 1, 0), [Leaf(home=0, others=(2,), nbytes=5)])
    assert held((0, 1, 2, 3)).tolist() == [5, 0]
    assert joint.fastest(held, limit, 0) == (0, 1, 2, 3)
