import numpy as np
import pytest

from funpipe.schedules.rounds import turns


@pytest.mark.parametrize(("p", "v", "m", "per_round"), [(1, 1, 4, 4), (2, 3, 8, 4), (3, 2, 6, 3)])
def test_each_rank_counts_its_tasks_once(p, v, m, per_round):
    for numbers in turns(p, v, m, per_round):
        for rank in range(p):
            assert sorted(numbers[rank::p].ravel()) == list(range(v * m))


def test_backwards_go_through_the_stages_the_other_way():
    forward, backward = turns(2, 3, 4, 2)
    assert np.array_equal(forward.reshape(3, 2, 4)[::-1], backward.reshape(3, 2, 4))
