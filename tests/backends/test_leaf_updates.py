"""The graph of a leaf's update does what the interpreter means by it, in place."""

import pytest
import torch

from funpipe.backends.blocks import SCALARS, scalars_of
from funpipe.backends.leaf_updates import LeafUpdate, leaf_update
from funpipe.optim import adafactor, add_noise, chain, clip_by_global_norm, context, from_pair, muon, sgd
from funpipe.programs.instructions import Update
from funpipe.programs.slot_values import parts_of
from tests.programs.models import chain as model
from tests.programs.models import params_of, programs_of

OPTIMIZERS = {
    "muon": chain(clip_by_global_norm(0.1), muon(0.1, rest=sgd(0.1))),
    "adafactor": adafactor(0.1),
    "noise": chain(add_noise(noise_multiplier=1.0, max_norm=1.0, batch_size=1, key=0), sgd(0.1, momentum=0.9)),
    "tree": from_pair(
        lambda params: (),
        lambda g, s, p: ({n: -x / sum(y.square().sum() for y in g.values()) for n, x in g.items()}, s),
    ),
}


def updates(name):
    """Each update of leaves, and the leaves."""
    programs = programs_of(model, 1, 2, optimizer=OPTIMIZERS[name])
    numbers = tuple(scalars_of(OPTIMIZERS[name]))
    for update in (i for i in programs.programs[0].instructions if isinstance(i, Update)):
        bucket = programs.layout.bucket(update.bucket)
        if bucket.scope != "element":
            yield from (LeafUpdate(programs, update, part, OPTIMIZERS[name], numbers) for part in parts_of(bucket))


@pytest.mark.parametrize("name", ["muon", "adafactor", "tree", pytest.param("noise", marks=pytest.mark.full)])
def test_it_overwrites_leaves_and_slots(name):
    optimizer, params = OPTIMIZERS[name], params_of(model)
    grads = {leaf: 0.1 * torch.ones_like(p) for leaf, p in params.items()}
    state, step = optimizer.init(params), torch.tensor(3)
    expected, _ = optimizer.update(grads, state, params, context(optimizer, params, grads, step))
    squares = torch.stack([g.square().sum() for g in grads.values()])
    known = {"step": step, "squares": squares}
    known |= {f"{SCALARS}{n}": x for n, x in optimizer.scalars(step).items()}
    for update in updates(name):
        leaves = [slot.leaf for slot in update.part]
        mine = [params[leaf].clone() for leaf in leaves]
        slots = [torch.zeros(update.programs.types[s].shape) for s in update.slots]
        others = [known[name] for name in update.others]
        assert leaf_update(update).module(*mine, *(grads[leaf] for leaf in leaves), *slots, *others) == ()
        for leaf, found in zip(leaves, mine, strict=True):
            torch.testing.assert_close(found, expected[leaf])
        assert all(bool(slot.any()) for slot in slots)


def test_leaves_of_one_shape_are_one_graph():
    keys = [update.key for update in updates("adafactor")]
    assert len(keys) == 8
    assert len(set(keys)) == 2  # matrices and vectors


def test_leaves_of_one_shape_have_noise_of_their_own():
    """They were one graph once, and had the same noise, to which no bound on privacy applies."""
    keys = [update.key for update in updates("noise")]
    assert len(set(keys)) == len(keys) == 8
