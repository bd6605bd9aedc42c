"""Normal numbers: their moments, their distribution, and where they are cut."""

import math

import pytest
import torch

import funpipe as fp

COUNT = 1 << 16


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_moments(dtype):
    drawn = fp.random.normal(fp.random.key(1), (COUNT,), dtype=dtype).double()
    error = COUNT**-0.5
    assert abs(float(drawn.mean())) < 4 * error
    assert abs(float(drawn.var()) - 1) < 4 * math.sqrt(2) * error
    assert abs(float((drawn**3).mean())) < 4 * math.sqrt(15) * error
    assert abs(float((drawn**4).mean()) - 3) < 4 * math.sqrt(96) * error


def test_the_distribution():
    drawn = fp.random.normal(fp.random.key(2), (COUNT,), dtype=torch.float64).sort().values
    cdf = 0.5 * (1 + torch.erf(drawn / math.sqrt(2)))
    distance = (cdf - torch.arange(1, COUNT + 1) / COUNT).abs().max()
    assert float(distance) * COUNT**0.5 < 2.2  # Kolmogorov and Smirnov


def test_the_two_of_a_pair_do_not_correlate():
    drawn = fp.random.normal(fp.random.key(3), (4, COUNT), dtype=torch.float64)
    products = (torch.corrcoef(drawn) - torch.eye(4)).abs() * COUNT**0.5
    assert float(products.max()) < 4.5


def test_mean_and_deviation():
    drawn = fp.random.normal(fp.random.key(1), (COUNT,), 3.0, 0.5)
    assert abs(float(drawn.mean()) - 3) < 0.01 and abs(float(drawn.std()) - 0.5) < 0.01


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_few_bits(dtype):
    drawn = fp.random.normal(fp.random.key(1), (COUNT,), dtype=dtype)
    assert drawn.dtype == dtype and abs(float(drawn.float().std()) - 1) < 0.02


def test_truncated():
    drawn = fp.random.truncated_normal(fp.random.key(1), (COUNT,), 1.0, 2.0, 0.0, 4.0)
    assert 0 <= float(drawn.min()) and float(drawn.max()) <= 4
    below = 0.5 * (1 + torch.erf((drawn.double() - 1) / 2 / math.sqrt(2)))
    low, high = (0.5 * (1 + math.erf((x - 1) / 2 / math.sqrt(2))) for x in (0, 4))
    assert abs(float(((below - low) / (high - low)).mean()) - 0.5) < 0.005
