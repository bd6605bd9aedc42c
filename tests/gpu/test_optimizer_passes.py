"""The optimizer's passes on a GPU; skipped without one."""

import optree
import pytest
import torch

from funpipe.optim import adamw, sgd
from funpipe.passes import compose, donate, expand_updates, fuse_updates, split_updates
from tests.passes.optimizer.steps import OPTIMIZERS, assert_same_bits, draw, initial, trained, update_step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def on_gpu(leaves):
    return optree.tree_map(lambda leaf: leaf.cuda(), leaves)


PARAMS, BATCHES = draw(0), [draw(1), draw(2)]


def after(optimizer, passes=(), lr=None):
    params = on_gpu(PARAMS)
    step = update_step(optimizer, params, lr)
    return trained(
        compose(*passes)(step) if passes else step, initial(optimizer, params, lr), list(map(on_gpu, BATCHES))
    )


@pytest.mark.parametrize("lr", [None, 0.05])
@pytest.mark.parametrize(
    ("ours", "theirs", "settings"),
    [(adamw, torch.optim.AdamW, {"weight_decay": 0.1}), (sgd, torch.optim.SGD, {"momentum": 0.9})],
)
def test_fused_updates_are_those_of_torch(ours, theirs, settings, lr):
    leaves = {n: torch.nn.Parameter(p) for n, p in on_gpu(PARAMS).items()}
    reference = theirs(leaves.values(), lr=0.05, fused=True, **settings)
    for batch in BATCHES:
        for name, leaf in leaves.items():
            leaf.grad = batch[name].cuda()
        reference.step()
    found = after(ours(0.05, **settings), (split_updates(2), fuse_updates(strict=True), donate()), lr)
    for name, leaf in leaves.items():
        torch.testing.assert_close(found["params"][name], leaf.detach(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("name", ["clipped", "groups", "dampening"])
def test_written_out_and_overwritten_the_bits_stay(name, flat):
    found = after(OPTIMIZERS[name], (expand_updates(flat), donate()))
    assert_same_bits(found["params"], after(OPTIMIZERS[name])["params"])
