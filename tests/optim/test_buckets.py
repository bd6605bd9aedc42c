"""The law that flat buckets rest on: leaves one by one, or concatenated, give the same bits."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from funpipe.optim import (
    accumulate,
    adadelta,
    adagrad,
    adam,
    adamax,
    adamw,
    asgd,
    chain,
    clip_by_global_norm,
    context,
    ema,
    lion,
    map_slots,
    nadam,
    radam,
    rmsprop,
    rprop,
    sgd,
    warmup_cosine,
)

OPTIMIZERS = {
    "sgd": sgd(0.1, weight_decay=0.1),
    "nesterov": sgd(0.1, momentum=0.9, nesterov=True),
    "dampening": sgd(0.1, momentum=0.9, dampening=0.5),
    "adam": adam(0.1, weight_decay=0.1),
    "adamw": adamw(warmup_cosine(0.1, 2, 9)),
    "clipped": chain(clip_by_global_norm(0.5), adam(0.1)),
    "lion": lion(0.1, weight_decay=0.1),
    "rmsprop": rmsprop(0.1, momentum=0.9, centered=True),
    "adagrad": adagrad(0.1, lr_decay=0.1, initial_accumulator_value=0.1),
    "adadelta": adadelta(),
    "adamax": adamax(0.1),
    "nadam": nadam(0.1, weight_decay=0.1, decoupled_weight_decay=True),
    "radam": radam(0.1, betas=(0.9, 0.5)),
    "asgd": asgd(0.1, t0=1),
    "rprop": rprop(0.1),
    "average": ema(adam(0.1), decay=0.9, debias=True),
    "accumulated": accumulate(adamw(0.1), steps=2),
    "masked": chain(clip_by_global_norm(0.5), adamw(0.1, decay_mask=lambda name, leaf: leaf.dim() > 0)),
}

shapes = st.lists(st.lists(st.integers(0, 9), max_size=3).map(tuple), min_size=1, max_size=5)
dtypes = st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16])


def draw(shapes, dtype, random):
    return {f"leaf{i}": torch.randn(shape, generator=random, dtype=torch.float64).to(dtype) for i, shape in shapes}


def buckets_of(label, leaves):
    """Names of leaves by label."""
    groups = {}
    for name, leaf in leaves.items():
        groups.setdefault(label(name, leaf) if label else None, []).append(name)
    return groups


def join(entries, groups):
    return {str(label): torch.cat([entries[name].reshape(-1) for name in names]) for label, names in groups.items()}


def cut(buckets, groups, leaves):
    entries = {}
    for label, names in groups.items():
        parts = buckets[str(label)].split([leaves[name].numel() for name in names])
        entries |= {name: part.reshape(leaves[name].shape) for name, part in zip(names, parts, strict=True)}
    return entries


def assert_same_bits(found, expected):
    for name, leaf in expected.items():
        assert found[name].dtype == leaf.dtype
        assert torch.equal(found[name].reshape(-1).view(torch.uint8), leaf.reshape(-1).view(torch.uint8)), name


@pytest.mark.parametrize("name", OPTIMIZERS)
@given(shapes=shapes, dtype=dtypes, seed=st.integers(0, 2**32), steps=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_leaves_and_buckets_give_the_same_bits(name, shapes, dtype, seed, steps):
    optimizer, random = OPTIMIZERS[name], torch.Generator().manual_seed(seed)
    params = draw(enumerate(shapes), dtype, random)
    groups = buckets_of(optimizer.label, params)
    labels = {str(label): label for label in groups}
    state = optimizer.init(params)
    flat, flat_state = join(params, groups), optimizer.init(join(params, groups))
    for step in range(steps):
        grads = draw(enumerate(shapes), dtype, random)
        ctx = context(optimizer, params, grads, torch.tensor(step))
        params, state = optimizer.update(grads, state, params, ctx)
        ctx = replace(ctx, label=labels.__getitem__)
        flat, flat_state = optimizer.update(join(grads, groups), flat_state, flat, ctx)
    assert_same_bits(cut(flat, groups, params), params)
    assert_slots_have_the_same_bits(map_slots(lambda slot: cut(slot, groups, params), flat_state), state)


def assert_slots_have_the_same_bits(found, expected):
    assert found.keys() == expected.keys()
    for name, part in expected.items():
        if part and all(isinstance(x, torch.Tensor) for x in part.values()):
            assert_same_bits(found[name], part)
        else:
            assert_slots_have_the_same_bits(found[name], part)
