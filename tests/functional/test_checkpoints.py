"""`torch.utils.checkpoint` inside a pure module: what is computed again reads the parameters that were passed in."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import funpipe as fp


class Blocks(nn.Module):
    """Two layers, each behind a checkpoint."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(2))
        self.reentrant = reentrant
        self.calls = 0

    def part(self, layer: nn.Module, x: Tensor) -> Tensor:
        self.calls += 1
        return torch.tanh(layer(x))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = checkpoint(self.part, layer, x, use_reentrant=self.reentrant)
        return x


def plain(params: dict[str, Tensor], x: Tensor) -> Tensor:
    for i in range(2):
        x = torch.tanh(nn.functional.linear(x, params[f"layers.{i}.weight"], params[f"layers.{i}.bias"]))
    return x.square().sum()


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradients_are_those_of_the_parameters_given_not_of_the_modules_own(reentrant):
    module = Blocks(reentrant)
    apply, params, _ = fp.functionalize(module)
    other = {n: torch.randn_like(p).requires_grad_() for n, p in params.items()}
    x = torch.randn(4, 3, requires_grad=True)  # a reentrant checkpoint trains nothing without
    found = torch.autograd.grad(apply(other, {}, x)[0].square().sum(), list(other.values()))
    wanted = torch.autograd.grad(plain(other, x), list(other.values()))
    for one, another in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, another)
    assert module.calls == 4  # twice each: nothing was kept


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_traced_backward_computes_them_again(reentrant):
    apply, params, _ = fp.functionalize(Blocks(reentrant))
    scale = torch.ones(3)

    def loss(params: dict[str, Tensor], x: Tensor) -> Tensor:
        return apply({n: p for n, p in params.items() if n != "scale"}, {}, x * params["scale"])[0].square().sum()

    traced = fp.trace(loss, {**params, "scale": scale.requires_grad_()}, torch.randn(4, 3))
    again = [n for n in traced.backward if str(n.target) == "aten.tanh.default"]
    assert len(again) == 2 and not traced.consts


def test_checkpoints_elsewhere_stay_what_they_are():
    module = Blocks(True)
    with pytest.raises(RuntimeError, match="incompatible with"):
        x = torch.randn(4, 3, requires_grad=True)
        torch.autograd.grad(module(x).sum(), [x])


class Normed(nn.Module):
    """Batch normalization behind a checkpoint: what is computed again writes to its buffers again."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.norm, self.first(x), use_reentrant=False)


def test_a_step_updates_buffers_once_behind_a_checkpoint():
    module, x = Normed(), torch.randn(8, 3)
    apply, params, buffers = fp.functionalize(module)

    def loss(params: dict[str, Tensor], x: Tensor, *, buffers: dict[str, Tensor]) -> fp.Out:
        out, buffers = apply(params, buffers, x)
        return fp.Out(out.tanh().sum(), buffers=buffers)

    step = fp.train_step(loss, fp.optim.sgd(0.0), num_microbatches=2, backend="interpret")
    state, _ = step(step.init(params, x, buffers=buffers), x)
    with torch.no_grad():
        for half in x.chunk(2):
            module.norm(module.first(half))
    for name, buffer in step.gather(state)[1].items():
        torch.testing.assert_close(buffer, module.get_buffer(name))
