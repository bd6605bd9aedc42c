"""Integers and permutations."""

import pytest
import torch

import funpipe as fp
from funpipe._errors import FunpipeError

COUNT = 1 << 16


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3, 7), (0, 256), (5, 5 + 1000)])
def test_every_integer_is_as_likely(low, high):
    cells = (fp.random.randint(fp.random.key(1), (COUNT,), low, high) - low).bincount(minlength=high - low).double()
    assert len(cells) == high - low
    expected, freedom = COUNT / len(cells), len(cells) - 1
    statistic = float(((cells - expected) ** 2 / expected).sum())
    assert abs(statistic - freedom) <= 5 * (2 * freedom) ** 0.5


@pytest.mark.parametrize(("low", "high"), [(3, 3), (5, 1), (0, 2**31)])
def test_bounds_that_cannot_be(low, high):
    with pytest.raises(FunpipeError, match=r"pass low < high, at most 2147483647 apart"):
        fp.random.randint(fp.random.key(1), (2,), low, high)


def test_a_permutation_has_every_integer_once():
    assert fp.random.permutation(fp.random.key(1), 1000).sort().values.tolist() == list(range(1000))


def test_all_permutations_are_as_likely():
    keys = fp.random.split(fp.random.key(2), 6000)
    orders = torch.func.vmap(lambda key: fp.random.permutation(key, 3))(keys)
    cells = (orders * torch.tensor([9, 3, 1])).sum(1).bincount()
    counts = cells[cells > 0].double()
    assert len(counts) == 6 and float(((counts - 1000) ** 2 / 1000).sum()) < 26  # 5 degrees of freedom
