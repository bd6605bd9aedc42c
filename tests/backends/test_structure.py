import pytest
import torch
from torch import fx

from funpipe._typing import TensorType
from funpipe.backends.structure import structure

SMALL = TensorType((2,), (1,), torch.float32)


def of(function, types=(SMALL, SMALL)):
    return structure(fx.symbolic_trace(function).graph, types)


def test_names_do_not_count():
    assert of(lambda x, y: (x + y) * 2) == of(lambda u, v: (u + v) * 2)


@pytest.mark.parametrize(
    "other",
    [
        lambda x, y: (x + y) * 3,
        lambda x, y: (x - y) * 2,
        lambda x, y: (x + x) * 2,
        lambda x, y: (y + x) * 2,
        lambda x, y: torch.sum(x + y, dim=0, keepdim=True),
    ],
)
def test_everything_else_does(other):
    assert of(lambda x, y: (x + y) * 2) != of(other)


def test_keywords_count():
    assert of(lambda x, y: torch.sum(x, dim=0, dtype=None)) != of(lambda x, y: torch.sum(x, dim=0, dtype=torch.float64))


OTHERS = [
    TensorType((3,), (1,), torch.float32),
    TensorType((2,), (1,), torch.int32),
    TensorType((2,), (2,), torch.float32),
    TensorType((2,), (1,), torch.float32, "cuda"),
]


@pytest.mark.parametrize("other", OTHERS, ids=["shape", "dtype", "stride", "device"])
def test_types_count(other):
    assert of(lambda x, y: x + y) != of(lambda x, y: x + y, (SMALL, other))
