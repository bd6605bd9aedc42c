import pytest
import torch

from funpipe._typing import TensorType
from funpipe.backends.expressions import arguments_of, rows, view_of, zeros
from funpipe.programs.layout import Slot


def value(text, **names):
    return eval(text, {"torch": torch, **names})


@pytest.mark.parametrize(("shape", "dim"), [((8, 3), 0), ((3, 8, 2), 1), ((128, 16), 0), ((8,), 0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
def test_the_rows_of_all_microbatches_are_the_batch(shape, dim, dtype):
    batch = torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype)
    part = batch.chunk(4, dim)[0].contiguous()
    found = [value(rows("x", TensorType.of(part), dim, i), x=batch) for i in range(4)]
    assert torch.equal(torch.cat(found, dim), batch)
    assert all(f.is_contiguous() for f in found)


def test_rows_are_a_view_where_they_are_aligned_and_a_copy_where_not():
    aligned, odd = torch.zeros(2, 16), torch.zeros(2, 3)
    assert value(rows("x", TensorType.of(aligned), 0, 1), x=torch.zeros(8, 16))._base is not None
    assert value(rows("x", TensorType.of(odd), 0, 1), x=torch.zeros(8, 3))._base is None


def test_zeros_have_the_type():
    kind = TensorType((2, 3), (3, 1), torch.bfloat16)
    assert TensorType.of(value(zeros(kind))) == kind


def test_a_type_as_arguments_keeps_strides():
    kind = TensorType((2, 3), (1, 2), torch.float64)
    shape, stride, dtype, device = value(f"({arguments_of(kind)})")
    assert TensorType(tuple(shape), tuple(stride), dtype, device.type) == kind


@pytest.mark.parametrize(
    "slot", [Slot("w", 2, (2, 3, 2)), Slot("b", 5, ()), Slot("e", 0, (0, 4))], ids=lambda s: s.leaf
)
def test_a_leaf_is_a_view_of_its_bucket(slot):
    flat = torch.arange(16.0)
    found = value(view_of("v3", slot), v3=flat)
    assert torch.equal(found, slot.view(flat)) and found.stride() == slot.view(flat).stride()
    assert found.untyped_storage().data_ptr() == flat.untyped_storage().data_ptr()
