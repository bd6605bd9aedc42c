from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from funpipe.stages.min_max import min_max


@st.composite
def lines(draw):
    """Costs and bytes of all parts of a line of up to 7 items, and a number of parts."""
    items = draw(st.integers(1, 7))
    numbers = st.lists(st.integers(0, 5), min_size=(items + 1) ** 2, max_size=(items + 1) ** 2)
    cost, moved = (np.array(draw(numbers), dtype=float).reshape(items + 1, items + 1) for _ in range(2))
    cost[np.tri(items + 1, dtype=bool)] = np.inf
    return cost, moved, draw(st.integers(1, items))


def all_partitions(items: int, parts: int):
    for inner in combinations(range(1, items), parts - 1):
        bounds = (0, *inner, items)
        yield inner, list(zip(bounds, bounds[1:], strict=False))


@given(lines())
def test_it_is_the_best_of_all_partitions(line):
    cost, moved, parts = line

    def rank(partition):
        inner, steps = partition
        return max(cost[s] for s in steps), sum(moved[s] for s in steps), inner

    best = min(all_partitions(len(cost) - 1, parts), key=rank)
    assert min_max(cost, moved, parts) == best[0]


def test_rounding_is_no_difference():
    times = np.array([0.1] * 6)
    done = np.concatenate([[0], np.cumsum(times)])
    cost = np.where(np.tri(7, dtype=bool), np.inf, done[None] - done[:, None])
    assert min_max(cost, np.zeros((7, 7)), 3) == (2, 4)


def test_fewer_bytes_win_among_equals():
    cost = np.where(np.tri(4, dtype=bool), np.inf, 1.0)
    moved = np.zeros((4, 4))
    moved[1, 3] = 5
    assert min_max(cost, moved, 2) == (2,)
