"""The private corners of torch that have no public counterpart, one function each.

Every function here has a test in `tests/test_compat.py` that fails clearly when a torch release moves what it uses.
"""

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
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


@contextmanager
def generated_code() -> Iterator[list[str]]:
    """While open, collects the source of every module that Inductor generates or takes from its cache."""
    from torch._inductor.graph import GraphLowering

    before = GraphLowering.__dict__["save_output_code"]
    found: list[str] = []
    GraphLowering.save_output_code = staticmethod(found.append)  # type: ignore[method-assign]
    try:
        yield found
    finally:
        GraphLowering.save_output_code = before  # type: ignore[method-assign]


@contextmanager
def quiet_compile() -> Iterator[None]:
    """While open, what torch warns about in its own code is not shown: nobody who compiles a step can act on it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"torch(\.|$)")
        warnings.filterwarnings(
            "ignore", message="The .grad attribute of a Tensor that is not a leaf", category=UserWarning
        )
        warnings.filterwarnings("ignore", message="dynamo_pgo force disabled", category=UserWarning)
        yield


@contextmanager
def separate_regions() -> Iterator[None]:
    """While open, a nested region that is called once is compiled by itself too, like one that is called often.

    Otherwise Dynamo inlines it: it would be fused with what is around it, and its bits could depend on that.
    """
    from torch._dynamo import config

    name = "inline_single_use_invoke_subgraph"  # where a release has no such option, it inlines nothing
    with config.patch({name: False}) if hasattr(config, name) else nullcontext():
        yield
