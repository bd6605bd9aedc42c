"""What a step takes: state as it is, the batch and constants where and how the program types them."""

from unittest.mock import Mock

import pytest
import torch

from funpipe._typing import TensorType
from funpipe.runtime.feed import Feed

CPU = torch.device("cpu")
X = TensorType((2, 3), (3, 1), torch.float32)
TYPES = {"batch.x": X, "batch.a.b": X, "const.c": X}


def test_inputs_come_in_the_programs_order():
    state, const = {"bucket.0": torch.ones(4), "step": torch.tensor(0), "unused": torch.ones(1)}, torch.ones(2, 3)
    batch = {"x": torch.zeros(2, 3), "a.b": torch.ones(2, 3), "elsewhere": torch.ones(1)}
    feed = Feed(("bucket.0", "step", "batch.a.b", "batch.x", "const.c"), TYPES, {"c": const})
    found = feed(state, batch, CPU)
    wanted = [state["bucket.0"], state["step"], batch["a.b"], batch["x"], const]
    assert all(a is b for a, b in zip(found, wanted, strict=True))


def test_a_batch_is_laid_out_in_rows_and_asks_for_no_gradient():
    x = torch.arange(6.0).reshape(3, 2).t().requires_grad_()
    (found,) = Feed(("batch.x",), TYPES, {})({}, {"x": x}, CPU)
    assert found.stride() == (3, 1)
    assert not found.requires_grad
    assert torch.equal(found, x)


@pytest.mark.parametrize("pinned", [True, False])
def test_the_host_waits_for_a_copy_to_a_gpu_only_if_its_memory_is_read_later(pinned):
    value = Mock(requires_grad=False, device=CPU)
    value.detach.return_value, value.is_pinned.return_value = value, pinned
    value.to.return_value = torch.ones(2, 3)
    Feed(("batch.x",), TYPES, {})({}, {"x": value}, torch.device("cuda", 0))
    value.to.assert_called_once_with(torch.device("cuda", 0), non_blocking=not pinned)
