"""Models and clusters that the tests of planning share."""

import torch
import torch.nn.functional as F

import funpipe as fp
from tests.tracing.gpt import GPT, TIME, WORDS


def chain(layers=6, width=64, rows=8):
    """A loss of equal layers, its parameters and a batch, all meta."""

    def loss(params, x):
        for w in params:
            x = torch.tanh(x @ w)
        return x.square().mean()

    with torch.device("meta"):
        return loss, [torch.empty(width, width) for _ in range(layers)], torch.empty(rows, width)


def gpt(blocks=4, rows=1):
    """The tiny GPT, whose head is tied to its embedding, all meta."""
    with torch.device("meta"):
        apply, params, _ = fp.functionalize(GPT(blocks))
        batch = {name: torch.empty(rows, TIME, dtype=torch.long) for name in "xy"}

    def loss(params, batch):
        logits, _ = apply(params, {}, batch["x"])
        return F.cross_entropy(logits.flatten(0, 1), batch["y"].flatten())

    assert params["words.weight"].shape[0] == WORDS
    return loss, params, batch


def cluster(devices=2, **changes):
    """Slow devices, so that times are of the size of the messages'."""
    settings = {"flops": 1e9, "memory": 1e9, "links": fp.planning.Link(1e8, 1e-5), "bandwidth": 1e9}
    return fp.Cluster(devices, **{**settings, **changes})
