"""Normalizations that are written out have torch's values, and derivatives of derivatives."""

import pytest
import torch
from torch.func import grad, jvp
from torch.nn import functional

from funpipe.functional.normalizations import WrittenOut
from funpipe.functional.transformed import load_forward_mode

load_forward_mode()
MADE = torch.Generator().manual_seed(0)
X, V = (torch.randn(4, 6, 3, generator=MADE, dtype=torch.float64) for _ in range(2))
SCALE, SHIFT = torch.rand(2, 6, generator=MADE, dtype=torch.float64)


def stats():
    return SHIFT.clone(), SCALE.clone() + 0.5


NORMS = {
    "layer": lambda x: functional.layer_norm(x, (6, 3), SCALE[:, None].expand(6, 3), SHIFT[:, None].expand(6, 3)),
    "layer of torch": lambda x: torch.layer_norm(x, (3,)),
    "layer of ATen": lambda x: torch.ops.aten.layer_norm.default(x, [3]),
    "layer with its mean": lambda x: torch.native_layer_norm(x, (3,), None, None, 1e-5)[0],
    "batch": lambda x: functional.batch_norm(x, *stats(), SCALE, SHIFT, training=True),
    "batch without statistics": lambda x: functional.batch_norm(x, None, None, training=True),
    "batch, evaluated": lambda x: functional.batch_norm(x, *stats(), SCALE, SHIFT),
    "batch of torch": lambda x: torch.batch_norm(x, SCALE, SHIFT, *stats(), True, 0.1, 1e-5, False),
    "instance": lambda x: functional.instance_norm(x, *stats(), SCALE, SHIFT),
    "instance, evaluated": lambda x: functional.instance_norm(x, *stats(), use_input_stats=False),
    "modules": torch.nn.Sequential(torch.nn.BatchNorm1d(6, track_running_stats=False), torch.nn.LayerNorm(3)).double(),
}


@pytest.mark.parametrize("name", NORMS)
def test_values_and_the_gradient_of_a_derivative(name):
    def loss(x):
        return (NORMS[name](x).tanh() * V).sum()

    def slope(x):
        with WrittenOut():
            return jvp(loss, (x,), (V,))[1]

    expected = NORMS[name](X)
    with WrittenOut():
        torch.testing.assert_close(NORMS[name](X), expected)
    torch.testing.assert_close(grad(slope)(X), jvp(grad(loss), (X,), (V,))[1])


@pytest.mark.parametrize("norm", [functional.batch_norm, functional.instance_norm])
def test_statistics_are_kept_to_the_bit(norm):
    found, expected = stats(), stats()
    with WrittenOut():
        norm(X, *found, None, None, True, 0.3)
    norm(X, *expected, None, None, True, 0.3)
    assert all(map(torch.equal, found, expected)) and not torch.equal(found[0], SHIFT)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_of_16_bits(dtype):
    with WrittenOut():
        found = functional.layer_norm(X.to(dtype), (3,))
    assert found.dtype == dtype
    torch.testing.assert_close(found, functional.layer_norm(X.to(dtype), (3,)))
