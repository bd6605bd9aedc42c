"""What ranks with several stages hold."""

import numpy as np
from hypothesis import given, settings

from funpipe.stages.held import Held, Leaf
from tests.stages.grids import cases, grid_of

#   segment    0   1   2   3
#   boundary 0   1   2   3   4

NONE_IN_FLIGHT = np.zeros(2, np.int64)


def test_a_leaf_is_within_the_parts_that_read_it():
    leaf = Leaf(home=3, others=(1,), nbytes=5)
    assert leaf.within(1, 2) and leaf.within(3, 4) and leaf.within(0, 4)
    assert not leaf.within(0, 1) and not leaf.within(2, 3)


def test_the_stages_of_a_rank_share_its_memory():
    held = Held(grid_of([1] * 6, resident=[2, 2, 1, 1, 2, 2]), np.zeros(3, np.int64), (0, 1, 0))
    assert held((0, 2, 4, 6)).tolist() == [8, 2]


def test_what_a_stage_saves_counts_for_each_microbatch_in_flight():
    held = Held(grid_of([1] * 4, resident=[1] * 4, saved=[2, 3, 4, 5]), np.array([3, 1]), (0, 1))
    assert held((0, 2, 4)).tolist() == [2 + 3 * 5, 2 + 1 * 9]


def test_a_rank_holds_once_a_leaf_that_lives_elsewhere():
    """Rank 1 reads it in two stages; it lives on rank 0, whose grid counts it."""
    grid = grid_of([1] * 4, resident=[7, 0, 0, 0])
    held = Held(grid, np.zeros(4, np.int64), (0, 1, 0, 1), [Leaf(home=0, others=(1, 3), nbytes=7)])
    assert held((0, 1, 2, 3, 4)).tolist() == [7, 7]


def test_a_leaf_that_lives_on_the_rank_counts_where_it_lives():
    held = Held(grid_of([1] * 4), NONE_IN_FLIGHT, (0, 1), [Leaf(home=1, others=(0, 3), nbytes=7)])
    assert held((0, 2, 4)).tolist() == [0, 7]  # the grid counts it on rank 0, and here it is 0 there


@given(cases(shared=True))
@settings(max_examples=50, deadline=None)
def test_it_is_the_sum_over_the_stages_and_the_copies_that_a_rank_needs(case):
    """Told stage by stage, in plain Python."""
    held = case.held
    for bounds in case.partitions():
        stages, expected = case.grid.stages(bounds), [0] * held.num_ranks
        spans = list(zip(bounds, bounds[1:], strict=False))
        for s, rank in enumerate(held.ranks):
            expected[rank] += int(stages.resident[s] + held.in_flight[s] * stages.saved[s])
        for rank in range(held.num_ranks):
            mine = [span for span, other in zip(spans, held.ranks, strict=True) if other == rank]
            for leaf in held.leaves:
                read = any(leaf.within(*span) for span in mine)
                lives = any(low <= leaf.home < high for low, high in mine)
                expected[rank] += leaf.nbytes * (read and not lives)
        assert held(bounds).tolist() == expected
