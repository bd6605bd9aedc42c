import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from funpipe._errors import LossError
from funpipe.functional import reducers
from funpipe.functional.reducers import KINDS, combine

floats = st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=6)


@pytest.mark.parametrize("kind", KINDS)
def test_each_reducer_names_its_kind(kind):
    x = torch.ones(2)
    reduced = getattr(reducers, kind)(x)
    assert (reduced.kind, reduced.value) == (kind, x)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("mean", [2.0, 3.5]), ("sum", [6.0, 10.5]), ("max", [3.0, 6.0]), ("last", [2.0, 0.5])],
)
def test_combine_works_elementwise(kind, expected):
    values = [torch.tensor([1.0, 4.0]), torch.tensor([3.0, 6.0]), torch.tensor([2.0, 0.5])]
    assert combine(kind, values).tolist() == expected


def test_cat_joins_rows_of_different_numbers():
    assert combine("cat", [torch.ones(2, 3), torch.zeros(1, 3)]).shape == (3, 3)


@given(floats)
def test_sums_are_taken_in_order(numbers):
    total = torch.tensor(numbers[0])
    for number in numbers[1:]:
        total = total + torch.tensor(number)
    values = [torch.tensor(number) for number in numbers]
    assert combine("sum", values) == total
    assert combine("mean", values) == total / len(numbers)


def test_integers_have_a_mean():
    assert combine("mean", [torch.tensor(1), torch.tensor(2)]).item() == 1.5


def test_max_of_truth_values():
    assert combine("max", [torch.tensor([False, True]), torch.tensor([False, False])]).tolist() == [False, True]


def test_combine_does_not_change_its_values():
    values = [torch.ones(2), torch.ones(2)]
    combine("sum", values)
    assert values[0].tolist() == [1, 1]


def test_a_number_is_refused():
    with pytest.raises(LossError, match=r"fp\.mean takes a tensor, not a float; use torch\.as_tensor\(x\)\."):
        reducers.mean(1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("reducer", [reducers.mean, reducers.sum])
def test_truth_values_are_not_added(reducer):
    with pytest.raises(LossError, match=r"of bool\[2\] would add truth values; use x\.float\(\)\."):
        reducer(torch.tensor([True, False]))


def test_cat_of_a_scalar():
    with pytest.raises(LossError, match=r"fp\.cat takes rows, but float32\[\] has no dimension 0; use x\[None\]\."):
        reducers.cat(torch.tensor(1.0))


def test_combine_of_nothing():
    with pytest.raises(LossError, match=r"fp\.sum got no values to combine; pass one for each microbatch\."):
        combine("sum", [])


def test_combine_of_an_unknown_kind():
    with pytest.raises(LossError, match=r"unknown reducer 'median'; use one of mean, sum, max, last, cat\."):
        combine("median", [torch.ones(1)])  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.int64])
def test_integers_do_not_overflow(dtype):
    values = [torch.tensor([100], dtype=dtype)] * 3
    assert combine("sum", values).dtype == torch.int64
    assert combine("sum", values).tolist() == [300]
    assert combine("mean", values).tolist() == [100.0]
