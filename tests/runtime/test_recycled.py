"""Memory is used again once the last tensor on it is gone, and never before."""

import sys

import pytest
import torch

from funpipe.runtime.transports.recycled import LEAST, Recycled

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch's allocator is used")


def test_memory_comes_back_with_the_last_view_of_it():
    memory = Recycled()
    first = memory.take(LEAST)
    address = first.data_ptr()
    view = first.view(torch.float32)[5:7].fill_(3)
    del first
    other = memory.take(LEAST)
    assert other.data_ptr() != address
    assert view.tolist() == [3, 3]
    del view
    assert memory.take(LEAST).data_ptr() == address


def test_sizes_that_differ_a_little_share_memory():
    memory = Recycled()
    address = memory.take(LEAST + 100).data_ptr()
    assert memory.take(2 * LEAST - 5).data_ptr() == address
    assert memory.take(2 * LEAST).numel() == 2 * LEAST


def test_small_memory_is_torchs():
    memory = Recycled()
    assert memory.take(LEAST - 1).numel() == LEAST - 1
    assert memory.kept == 0


def test_autograd_may_keep_it():
    memory = Recycled()
    x = memory.take(LEAST).view(torch.float32).fill_(2).requires_grad_()
    y = (x * x).sum()
    del x
    assert memory.kept == 0
    y.backward()
    del y
    assert memory.kept == LEAST


@pytest.mark.parametrize(
    "hold",
    [
        lambda x: x.numpy(),
        lambda x: x.__dlpack__(),
        lambda x: x.untyped_storage(),
        lambda x: x.view(torch.int64),
        lambda x: x.detach()[::2],
        lambda x: memoryview(x.numpy())[3:],
    ],
)
def test_whoever_holds_a_part_of_it_keeps_it(hold):
    memory = Recycled()
    first = memory.take(LEAST)
    address = first.data_ptr()
    held = hold(first)
    del first
    assert memory.kept == 0
    assert memory.take(LEAST).data_ptr() != address
    del held
    assert memory.kept == 2 * LEAST


def test_a_system_without_large_pages_has_memory_all_the_same(monkeypatch):
    monkeypatch.setattr("mmap.MADV_HUGEPAGE", -1)
    assert Recycled().take(LEAST).fill_(3).sum() == 3 * LEAST
