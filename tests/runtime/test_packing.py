"""Several tensors in one run of bytes: each comes out as it went in, aligned, and those of a dtype together."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from funpipe.runtime.transports.packing import ALIGNED, packing

DTYPES = (torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.complex64)
SHAPES = st.lists(st.integers(0, 5), max_size=3)


def transposed(x):
    """The same values, laid out otherwise."""
    return x.mT.contiguous().mT if x.ndim > 1 else x


@given(st.lists(st.tuples(SHAPES, st.sampled_from(DTYPES)), min_size=1, max_size=8))
def test_tensors_come_out_as_they_went_in(forms):
    tensors = [transposed(torch.arange(torch.Size(shape).numel()).to(dtype).reshape(shape)) for shape, dtype in forms]
    found = packing(tensors)
    raw = torch.full((found.nbytes,), 255, dtype=torch.uint8)
    found.put(tensors, raw)
    views = found.views(raw)
    assert all(torch.equal(view, tensor) for view, tensor in zip(views, tensors, strict=True))
    assert all(view.is_contiguous() and view.dtype == dtype for view, (_, dtype) in zip(views, forms, strict=True))
    assert all(view.data_ptr() % ALIGNED == raw.data_ptr() % ALIGNED for view in views if view.numel())


def test_a_run_holds_all_tensors_of_its_dtype():
    found = packing([torch.ones(3), torch.ones(2, dtype=torch.int64), torch.ones(1)])
    raw = torch.zeros(found.nbytes, dtype=torch.uint8)
    for run in found.runs:
        run.of(raw).fill_(7)
    assert [view.tolist() for view in found.views(raw)] == [[7, 7, 7], [7, 7], [7]]
    assert [run.dtype for run in found.runs] == [torch.float32, torch.int64]
