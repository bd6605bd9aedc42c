"""What a region makes while it runs."""

import torch

import funpipe as fp
from funpipe.planning.working import working_bytes

X, P = torch.ones(4, 3), torch.ones(3, 2)


def forward_of(loss, params, x=X):
    (stage,) = fp.stages.partition(fp.trace(loss, params, x, differentiate=False), ())
    return stage.F


def test_a_value_is_held_until_it_is_last_read():
    #             a: 32 bytes    b: 32    c: 32, a ends    d: 32, b and c end    sum: 4
    def loss(p, x):
        a = x @ p
        b = a.tanh()
        c = b + a
        return (c * b).sum()

    assert working_bytes(forward_of(loss, P)) == 3 * 32


def test_views_take_nothing():
    assert working_bytes(forward_of(lambda p, x: (x @ p).t()[:, 1:].sum(), P)) == 32 + 4


def test_results_are_held_to_the_end():
    def loss(p, x):
        kept = x @ p
        for _ in range(5):
            x = x.tanh()  # 48 bytes each, two at a time
        return fp.Out(x.sum() + kept.sum(), aux={"kept": fp.sum(kept.sum())})

    assert working_bytes(forward_of(loss, P)) == 32 + 2 * 48
