"""Uniform numbers: their range, their distribution, and that neighbours, keys and draws have nothing to do with each
other. Limits are those that one in ten thousand runs with truly random numbers would break; the keys are fixed."""

import pytest
import torch

import funpipe as fp
from funpipe._errors import FunpipeError, FunpipeTypeError
from funpipe.functional.random.uniform import keep

COUNT = 1 << 16


def numbers(*folds: int, count: int = COUNT) -> torch.Tensor:
    key = fp.random.key(2026)
    for fold in folds:
        key = fp.random.fold_in(key, fold)
    return fp.random.uniform(key, (count,), dtype=torch.float64)


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1]) * len(a) ** 0.5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_the_range(dtype):
    drawn = fp.random.uniform(fp.random.key(1), (COUNT,), dtype=dtype)
    assert drawn.dtype == dtype
    assert 0 <= float(drawn.min()) < 0.01 and 0.99 < float(drawn.max()) < 1


def test_the_bounds():
    drawn = fp.random.uniform(fp.random.key(1), (COUNT,), -3, 5)
    assert -3 <= float(drawn.min()) < -2.9 and 4.9 < float(drawn.max()) < 5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_chi_square_over_256_cells(dtype):
    drawn = fp.random.uniform(fp.random.key(3), (COUNT,), dtype=dtype)
    cells = (drawn * 256).long().bincount(minlength=256).double()
    expected = COUNT / 256
    statistic = float(((cells - expected) ** 2 / expected).sum())
    assert 175 < statistic < 350  # 255 degrees of freedom


@pytest.mark.parametrize("bit", range(24))
def test_every_bit_is_one_half_of_the_time(bit):
    bits = (fp.random.uniform(fp.random.key(4), (COUNT,)) * 2**24).long() >> bit & 1
    assert abs(float(bits.double().mean()) - 0.5) < 4 * 0.5 / COUNT**0.5


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 7, 64, COUNT // 4, COUNT // 2])
def test_neighbours_do_not_correlate(lag):
    drawn = numbers(0, 0, 0)
    assert abs(correlation(drawn[:-lag], drawn[lag:])) < 4


@pytest.mark.parametrize("other", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (0, 0, 2)])
def test_steps_microbatches_and_positions_do_not_correlate(other):
    assert abs(correlation(numbers(0, 0, 0), numbers(*other))) < 4


def test_the_first_numbers_of_many_keys_are_uniform():
    keys = fp.random.fold_in(fp.random.key(0), torch.arange(4096))
    firsts = torch.func.vmap(lambda key: fp.random.uniform(key, (1,)))(keys).flatten()
    cells = (firsts * 64).long().bincount(minlength=64).double()
    assert 30 < float(((cells - 64) ** 2 / 64).sum()) < 115  # 63 degrees of freedom


def test_near_seeds_have_nothing_in_common():
    a, b = (fp.random.uniform(fp.random.key(seed), (COUNT,), dtype=torch.float64) for seed in (0, 1))
    assert abs(correlation(a, b)) < 4


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 9])
def test_any_number_of_elements(count):
    assert fp.random.uniform(fp.random.key(1), (count,)).shape == (count,)
    assert fp.random.uniform(fp.random.key(1), (count,), dtype=torch.float64).shape == (count,)


def test_integers_are_refused():
    with pytest.raises(FunpipeTypeError, match=r"pass a floating-point one, such as torch.float32"):
        fp.random.uniform(fp.random.key(1), (2,), dtype=torch.int64)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_decisions_have_their_probability(p):
    mean = float(fp.random.bernoulli(fp.random.key(5), p, (COUNT,)).double().mean())
    assert abs(mean - p) <= 4 * (p * (1 - p) / COUNT) ** 0.5


def test_decisions_by_a_tensor_of_probabilities():
    p = torch.tensor([0.0, 0.25, 1.0])
    drawn = fp.random.bernoulli(fp.random.key(5), p.repeat(COUNT, 1)).double().mean(0)
    assert drawn[0] == 0 and drawn[2] == 1 and abs(float(drawn[1]) - 0.25) < 0.01


@pytest.mark.parametrize(("p", "near"), [(-0.5, 0), (1.5, 1)])
def test_no_probability(p, near):
    with pytest.raises(FunpipeError, match=rf"the probability is {p}; pass one between 0 and 1, such as {near}\."):
        keep(fp.random.key(5), (4,), p)
