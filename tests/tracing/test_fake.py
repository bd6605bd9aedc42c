import torch

from funpipe._typing import TensorType
from funpipe.tracing.fake import contiguous, in_rows


def test_contiguous_lays_out_in_rows():
    assert contiguous(TensorType((2, 3), (1, 2), torch.int64)).stride == (3, 1)
    assert contiguous(TensorType((), (), torch.int64)).stride == ()


def test_contiguous_agrees_with_torch_for_empty_tensors():
    empty = torch.empty(2, 0, 3)
    assert contiguous(TensorType.of(empty)) == TensorType.of(empty)


def test_rows_have_the_strides_of_rows_even_where_a_dimension_is_one():
    column = torch.ones(1, 3).t()[:, :1]
    assert column.is_contiguous() and column.stride() != (1, 1)
    assert in_rows(column).stride() == (1, 1)
    rows = torch.ones(2, 3)
    assert in_rows(rows) is rows
