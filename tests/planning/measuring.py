"""What the tests of measuring share: a small model, and a clock that only calls move on."""

import torch

import funpipe as fp


def chain(rows=8, device="cpu"):
    """Four products of 16 x 16 matrices, each with a tanh behind it."""
    params = {n: torch.ones(16, 16, device=device) for n in "abcd"}

    def loss(p, x):
        for w in p.values():
            x = torch.tanh(x @ w)
        return x.sum()

    return fp.trace(loss, params, torch.ones(rows, 16, device=device))


class Script:
    """A clock that only calls move on: each by the next of some durations, in seconds."""

    def __init__(self, *durations):
        self.now, self.durations = 0.0, list(durations)

    def __call__(self):
        return self.now

    def call(self, *inputs):
        self.now += self.durations.pop(0)
        return ()
