"""The private corners of torch that have no public counterpart, one function each.

Every function here has a test in `tests/test_compat.py` that fails clearly when a torch release moves what it uses.
"""

from contextlib import AbstractContextManager
from typing import Any

import torch


def fake_mode() -> AbstractContextManager[Any]:
    """A mode in which tensors have shapes, strides and devices, and no memory; real ones may be mixed in."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode(allow_non_fake_inputs=True)


def is_fake(tensor: torch.Tensor) -> bool:
    """Whether a tensor has no memory because it was made under `fake_mode`."""
    from torch._subclasses.fake_tensor import FakeTensor

    return isinstance(tensor, FakeTensor)
