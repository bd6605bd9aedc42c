"""Products of two dtypes are refused where they are traced, with the line; eager refuses them, too."""

import pytest
import torch
from torch import nn

import funpipe as fp
from funpipe._errors import TraceError
from funpipe.tracing import Traced


class Positions(nn.Module):
    """Adds a float32 buffer to what it is given, so what comes out is float32."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(4, 4), nn.Linear(4, 2)
        self.register_buffer("table", torch.randn(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x) + self.table
        return self.head(x)


def traced(precision: fp.Precision | None) -> Traced:
    apply, params, buffers = fp.functionalize(Positions())

    def loss_fn(params: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return apply(params, buffers, x)[0].float().square().mean()

    return fp.trace(loss_fn, params, torch.randn(3, 4), precision=precision)


def test_a_buffer_that_makes_a_product_of_two_dtypes() -> None:
    text = r"multiplies bfloat16 and float32 at .*test_dtypes.py:\d+ in the module 'head'.*x.to\(weight.dtype\)"
    with pytest.raises(TraceError, match=text):
        traced(fp.precision.bf16)


def test_the_remedy_that_is_named() -> None:
    assert traced(fp.Precision(keep={"head": torch.float32})).gradients
    assert traced(None).gradients
