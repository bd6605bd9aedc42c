"""Ranks of several stages under a limit: what the search finds is the best of all partitions."""

import numpy as np
import pytest
from hypothesis import given, settings

from funpipe.stages import joint, labels
from funpipe.stages.held import Held, Leaf
from funpipe.stages.labels import Found
from tests.stages.grids import cases, grid_of

examples = settings(max_examples=60, deadline=None)


def fastest(case):
    """The time of the slowest stage in the best of all partitions that keep the limit; None: none does."""
    fit = [bounds for bounds in case.partitions() if case.fullest(bounds) <= case.limit]
    return min(map(case.slowest, fit), default=None)


@given(cases(shared=True))
@examples
def test_it_is_the_fastest_of_all_partitions(case):
    found = joint.fastest(case.held, case.limit, 0)
    assert found.proved
    assert (found.bounds and case.slowest(found.bounds)) == fastest(case)
    assert found.bounds is None or case.fullest(found.bounds) <= case.limit


@given(cases(shared=True))
@examples
def test_the_fullest_rank_holds_as_little_as_in_any_partition(case):
    bounds, proved = joint.smallest(case.held)
    assert proved and case.fullest(bounds) == min(map(case.fullest, case.partitions()))


@pytest.mark.parametrize("most", [1, 2])
@given(case=cases(shared=True))
@examples
def test_where_labels_were_dropped_nothing_is_claimed_that_is_not_so(most, case):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "MOST", most)
        found, (bounds, proved) = joint.fastest(case.held, case.limit, 0), joint.smallest(case.held)
    assert found.bounds is None or case.fullest(found.bounds) <= case.limit
    assert not found.proved or (found.bounds and case.slowest(found.bounds)) == fastest(case)
    assert not proved or case.fullest(bounds) == min(map(case.fullest, case.partitions()))


def test_the_stages_of_a_rank_share_its_memory():
    """A rank may hold 6: stages 0 and 2 together, so that the cut after two segments each does not fit."""
    grid = grid_of([1] * 6, resident=[2, 2, 1, 1, 2, 2])
    held = Held(grid, np.zeros(3, np.int64), (0, 1, 0))
    assert held((0, 2, 4, 6)).tolist() == [8, 2]
    found = joint.fastest(held, 6, 0).bounds
    assert found is not None and max(held(found)) <= 6 and grid.stages(found).time.max() == 3


@pytest.mark.parametrize("limit", [5, 6])
def test_a_leaf_of_two_stages_of_one_rank_counts_once(limit):
    grid = grid_of([1, 1, 1], resident=[5, 0, 0])
    held = Held(grid, np.zeros(3, np.int64), (0, 1, 0), [Leaf(home=0, others=(2,), nbytes=5)])
    assert held((0, 1, 2, 3)).tolist() == [5, 0]
    assert joint.fastest(held, limit, 0) == Found((0, 1, 2, 3), proved=True)
