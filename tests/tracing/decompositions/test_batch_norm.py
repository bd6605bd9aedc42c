import pytest
import torch
from torch import nn

from funpipe import value_and_grad
from funpipe.functional import Out, functionalize
from funpipe.stages import balanced, partition
from funpipe.tracing import trace
from funpipe.tracing.decompositions.batch_norm import DECOMPOSITIONS
from tests.stages.region_values import run_regions

aten = torch.ops.aten
G = torch.Generator().manual_seed(0)
X = torch.randn(4, 3, 5, 5, generator=G)


class Transposed(nn.Module):
    """Normalizes the last dimension, then reads its result as if it lay in rows."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.out = nn.BatchNorm1d(6), nn.Linear(6, 2)

    def forward(self, x):
        return self.out(self.norm(x.transpose(1, 2)).transpose(1, 2))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("module", "x"),
    [
        (nn.Sequential(nn.Linear(5, 6), Transposed()), torch.randn(2, 4, 5, generator=G)),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)), X),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 2)), X.permute(0, 1, 3, 2)),
    ],
)
def test_strides_are_those_of_the_kernels(module, x, training):
    apply, params, buffers = functionalize(module.train(training))

    def loss(p, x, *, buffers):
        out, buffers = apply(p, buffers, x)
        return Out(out.sin().sum(), buffers=buffers)

    traced = trace(loss, params, x, buffers=buffers)
    kinds = {"param": params, "buffer": buffers, "batch": {"": x.contiguous()}}
    leaves = {f"{kind}.{n}": t.detach() for kind, part in kinds.items() for n, t in part.items()}
    run_regions(partition(traced, balanced(2)(traced)), leaves)


def forward_arguments(training):
    return X, torch.rand(3), torch.rand(3), torch.zeros(3), torch.ones(3), training, 0.1, 1e-5


@pytest.mark.parametrize("library", [aten.cudnn_batch_norm.default, aten.miopen_batch_norm.default])
@pytest.mark.parametrize("training", [True, False])
def test_the_forms_of_libraries_compute_the_same(library, training):
    ours, theirs = forward_arguments(training), forward_arguments(training)
    theirs = (*ours[:3], *theirs[3:])
    found = DECOMPOSITIONS[library](*ours)
    wanted = aten.native_batch_norm.default(*theirs)
    torch.testing.assert_close(found[:3], wanted)
    torch.testing.assert_close(ours[3:5], theirs[3:5])
    assert len(found) == len(library._schema.returns)


@pytest.mark.parametrize("library", [aten.cudnn_batch_norm_backward.default, aten.miopen_batch_norm_backward.default])
def test_so_do_their_backwards(library):
    x, weight, bias, mean, var, *rest = forward_arguments(True)
    grad = torch.rand_like(x)
    _, save_mean, save_var = aten.native_batch_norm.default(x, weight, bias, mean, var, *rest)
    statistics = (mean, var, save_mean, save_var)
    reserve = [torch.empty(0)] * (len(library._schema.arguments) - 8)
    found = DECOMPOSITIONS[library](x, grad, weight, *statistics, 1e-5, *reserve)
    wanted = aten.native_batch_norm_backward.default(grad, x, weight, *statistics, True, 1e-5, [True] * 3)
    torch.testing.assert_close(found, wanted)


def test_weights_of_a_low_dtype_beside_statistics_in_float32():
    module = nn.BatchNorm2d(3)
    with torch.no_grad():
        module.weight.uniform_(0.5, 1.5)
    apply, params, buffers = functionalize(module)
    low = {n: p.detach().bfloat16().requires_grad_() for n, p in params.items()}
    x = X.bfloat16()

    def loss(p, x, *, buffers):
        out, buffers = apply(p, buffers, x)
        return Out(out.float().sin().sum(), buffers=buffers)

    step = value_and_grad(loss, backend="interpret")
    found = step(low, x, buffers)[1]
    wide = [p.float() for p in low.values()]
    out = torch.nn.functional.batch_norm(x, torch.zeros(3), torch.ones(3), *wide, training=True)
    wanted = torch.autograd.grad(out.float().sin().sum(), list(low.values()))
    for one, other in zip(found.values(), wanted, strict=True):
        assert one.dtype == torch.bfloat16
        torch.testing.assert_close(one, other)
