import pytest
import torch

from funpipe.backends.rewrites import products
from tests.backends.rewrites.graphs import assert_same, called, rewritten_for

aten = torch.ops.aten
TOLERANCE = 2e-6


def matrix(rows, columns, transposed=False, dtype=torch.float32):
    generator = torch.Generator().manual_seed(rows)
    shape = (columns, rows) if transposed else (rows, columns)
    made = torch.randn(shape, generator=generator, dtype=dtype)
    return made.t() if transposed else made


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("right", [False, True])
def test_a_large_product_is_that_of_mm(left, right):
    operands = matrix(160, 96, left), matrix(96, 192, right)
    module = assert_same(lambda a, b: (aten.mm.default(a, b),), operands, TOLERANCE)
    assert called(module)[-1] == "funpipe.mm.default"


def test_the_left_side_is_laid_out_in_rows_by_a_kernel():
    operands = matrix(160, 96, transposed=True), matrix(96, 192)
    module = rewritten_for(lambda a, b: (aten.mm.default(a, b),), operands)
    assert called(module) == ["aten.clone.default", "funpipe.mm.default"]


def test_the_right_side_is_read_as_it_lies():
    operands = matrix(160, 96), matrix(96, 192, transposed=True)
    assert called(rewritten_for(lambda a, b: (aten.mm.default(a, b),), operands)) == ["funpipe.mm.default"]


def test_a_bias_goes_along():
    operands = matrix(1, 192)[0], matrix(160, 96), matrix(96, 192)
    module = assert_same(lambda c, a, b: (aten.addmm.default(c, a, b),), operands, TOLERANCE)
    assert called(module) == ["funpipe.mm.default"]


@pytest.mark.parametrize(("columns", "name"), [(127, "aten.mm.default"), (128, "funpipe.mm.default")])
def test_small_products_stay(columns, name):
    operands = matrix(128, 96), matrix(96, columns)
    assert called(rewritten_for(lambda a, b: (aten.mm.default(a, b),), operands)) == [name]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_products_of_other_types_stay(dtype):
    operands = matrix(160, 96, dtype=dtype), matrix(96, 192, dtype=dtype)
    assert called(rewritten_for(lambda a, b: (aten.mm.default(a, b),), operands)) == ["aten.mm.default"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_bias_of_a_small_product_is_added_after_it(dtype):
    operands = matrix(1, 5, dtype=dtype)[0], matrix(3, 4, dtype=dtype), matrix(4, 5, dtype=dtype)
    module = assert_same(lambda c, a, b: (aten.addmm.default(c, a, b),), operands, TOLERANCE)
    assert called(module) == ["aten.mm.default", "aten.add.Tensor"]


def test_a_bias_of_another_type_stays():
    operands = [t.bfloat16() for t in (matrix(1, 5)[0], matrix(3, 4), matrix(4, 5))]
    assert called(rewritten_for(lambda c, a, b: (aten.addmm.default(c, a, b),), operands)) == ["aten.addmm.default"]


@pytest.mark.parametrize("factors", [{"beta": 0.5}, {"alpha": 2.0}])
def test_factors_stay(factors):
    operands = matrix(1, 192)[0], matrix(160, 96), matrix(96, 192)
    module = rewritten_for(lambda c, a, b: (aten.addmm.default(c, a, b, **factors),), operands)
    assert called(module) == ["aten.addmm.default"]


def test_a_sum_of_matrices_stays():
    operands = matrix(160, 192), matrix(160, 96), matrix(96, 192)
    module = rewritten_for(lambda c, a, b: (aten.addmm.default(c, a, b),), operands)
    assert called(module) == ["aten.addmm.default"]


def test_without_onednn_products_stay(monkeypatch):
    monkeypatch.setattr(products, "_LINEAR", None)
    operands = matrix(160, 96), matrix(96, 192)
    assert called(rewritten_for(lambda a, b: (aten.mm.default(a, b),), operands)) == ["aten.mm.default"]


def test_a_bias_that_is_a_column_is_read_as_it_lies():
    columns = torch.randn(192, 2, generator=torch.Generator().manual_seed(3))
    operands = columns[:, 1], matrix(160, 96), matrix(96, 192)
    module = assert_same(lambda c, a, b: (aten.addmm.default(c, a, b),), operands, TOLERANCE)
    assert called(module) == ["funpipe.mm.default"]
