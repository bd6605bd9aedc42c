import pytest
import torch

from funpipe._errors import FunpipeError
from funpipe.optim import apply, chain, clip_by_global_norm, sgd

SHAPES = {"w": (7, 5), "b": (11,), "scale": ()}


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-13), (torch.float32, 1e-6)])
@pytest.mark.parametrize("max_norm", [1e-3, 1.0, 1e3, float("inf")])
def test_equals_torch(max_norm, dtype, tolerance):
    random = torch.Generator().manual_seed(0)
    grads = {name: torch.randn(shape, generator=random, dtype=dtype) for name, shape in SHAPES.items()}
    theirs = [torch.nn.Parameter(torch.zeros_like(grad)) for grad in grads.values()]
    for leaf, grad in zip(theirs, grads.values(), strict=True):
        leaf.grad = grad.clone()
    torch.nn.utils.clip_grad_norm_(theirs, max_norm)
    optimizer, zeros = (
        chain(clip_by_global_norm(max_norm), sgd(1.0)),
        {n: torch.zeros_like(g) for n, g in grads.items()},
    )
    found, _ = apply(optimizer, zeros, grads, optimizer.init(zeros), torch.tensor(0))
    for name, leaf in zip(SHAPES, theirs, strict=True):
        torch.testing.assert_close(-found[name], leaf.grad, rtol=tolerance, atol=0.0)


def test_small_gradients_keep_their_bits():
    optimizer, zeros, grads = (
        chain(clip_by_global_norm(1.0), sgd(1.0)),
        {"w": torch.zeros(2)},
        {"w": torch.full((2,), 0.3)},
    )
    found, _ = apply(optimizer, zeros, grads, optimizer.init(zeros), torch.tensor(0))
    assert torch.equal(-found["w"], grads["w"])


@pytest.mark.parametrize("max_norm", [0.0, -1.0, float("nan"), "1", True])
def test_bad_norms(max_norm):
    with pytest.raises(FunpipeError, match=r"max_norm is .*; pass a number above 0, such as 1\.0"):
        clip_by_global_norm(max_norm)
