"""Modules of torch, cut into three stages, against eager autograd."""

import pytest
import torch
from torch import nn

from funpipe.functional import Out, functionalize
from funpipe.schedules import OneFOneB
from funpipe.stages import balanced, partition
from funpipe.tracing import trace
from tests.running import eager, run_programs

WIDTH = 6


class Rows(nn.Module):
    """The first result of a module that gives several."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x)[0]


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.module = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, x):
        return self.module(x, x, x, need_weights=False)[0]


class Channels(nn.Module):
    """A module over channels, which are this one's last dimension."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x.transpose(1, 2)).transpose(1, 2)


MODULES = {
    "transformer": lambda: nn.TransformerEncoderLayer(WIDTH, 2, 12, dropout=0.0, batch_first=True),
    "attention": SelfAttention,
    "lstm": lambda: Rows(nn.LSTM(WIDTH, WIDTH, batch_first=True)),
    "gru": lambda: Rows(nn.GRU(WIDTH, WIDTH, batch_first=True)),
    "batch norm": lambda: Channels(nn.BatchNorm1d(WIDTH)),
    "instance norm": lambda: Channels(nn.InstanceNorm1d(WIDTH, affine=True, track_running_stats=True)),
    "group norm": lambda: Channels(nn.GroupNorm(2, WIDTH)),
    "convolution": lambda: Channels(nn.Conv1d(WIDTH, WIDTH, 3, padding=1)),
    "prelu": nn.PReLU,
    "glu": lambda: nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GLU()),
    "in place": lambda: nn.Hardswish(inplace=True),
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(WIDTH, WIDTH)),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(WIDTH, WIDTH)),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_computes_what_it_computes_eagerly(name):
    torch.manual_seed(0)
    modules = (nn.Linear(WIDTH, WIDTH), MODULES[name](), nn.Linear(WIDTH, WIDTH))
    apply, params, buffers = functionalize(nn.Sequential(*modules).double())

    def loss(p, x, *, buffers):
        out, buffers = apply(p, buffers, x)
        return Out(out.sin().mean(), buffers=buffers)

    x = torch.randn(6, 4, WIDTH, dtype=torch.float64)
    traced = trace(loss, params, x[:2], buffers=buffers)
    stages = partition(traced, balanced(3)(traced))
    found = run_programs(traced, stages, OneFOneB().table(3, 3), params, x, buffers=buffers)
    wanted = eager(loss, params, x, 3, buffers=buffers)
    torch.testing.assert_close(found.loss, wanted.loss, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.grads, wanted.grads, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(buffers | found.buffers, wanted.buffers, rtol=1e-10, atol=1e-12)
