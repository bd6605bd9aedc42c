"""A module with matrices, vectors and a buffer, trained by torch and by a train step."""

import torch
from torch import nn

import funpipe as fp


class Model(nn.Module):
    """Two layers; every optimizer of torch can update the matrices."""

    def __init__(self, bias=True):
        super().__init__()
        self.first, self.last = nn.Linear(4, 6, bias=bias), nn.Linear(6, 3, bias=bias)
        self.register_buffer("scale", torch.tensor(0.5))

    def forward(self, x):
        return self.last(fp.mark_stage_end(torch.tanh(self.first(x)) * self.scale))


def model(bias=True, seed=0):
    torch.manual_seed(seed)
    return Model(bias).double()


def batch(seed):
    random = torch.Generator().manual_seed(100 + seed)
    return torch.randn(8, 4, generator=random, dtype=torch.float64)


def train(module, optimizer, seeds):
    """Steps of torch."""
    for seed in seeds:
        optimizer.zero_grad()
        module(batch(seed)).square().mean().backward()
        optimizer.step()


def step_for(module, optimizer, **options):
    """A train step of the module, and its first state."""
    apply, params, buffers = fp.functionalize(module)

    def loss(params, x, *, buffers):
        return fp.Out(apply(params, buffers, x)[0].square().mean(), buffers=buffers)

    step = fp.train_step(loss, optimizer, backend="interpret", num_microbatches=2, **options)
    return step, step.init(params, batch(0), buffers=buffers)


def advance(step, state, seeds):
    for seed in seeds:
        state, _ = step(state, batch(seed))
    return state


def assert_same(one, other, tolerance=1e-9):
    for (name, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, msg=name)
