"""What is found to be no number, and what then stays as it was."""

import pytest
import torch

from funpipe.programs.skipping import overflow, unless


@pytest.mark.parametrize("bad", [float("inf"), -float("inf"), float("nan")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_gradient_that_is_not_finite_is_counted_once(bad, dtype):
    grads = [torch.ones(3, dtype=dtype), torch.tensor([1.0, bad, bad], dtype=dtype), torch.full((2,), bad, dtype=dtype)]
    assert overflow(grads).item() == 2
    assert overflow(grads[:1]).item() == 0
    assert overflow([]).dtype == torch.float32


def test_the_old_value_stays_where_any_flag_is_set():
    old, new = torch.tensor([1.0, float("nan")]), torch.tensor([float("nan"), 2.0])
    good, bad = torch.tensor(0.0), torch.tensor(2.0)
    assert unless([], old, new) is new
    torch.testing.assert_close(unless([good, good], old, new), new, equal_nan=True)
    torch.testing.assert_close(unless([good, bad], old, new), old, equal_nan=True)
