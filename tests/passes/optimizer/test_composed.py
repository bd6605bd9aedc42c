"""Any of the passes, one after the other, compute the same bits on two ranks."""

from hypothesis import given, settings
from hypothesis import strategies as st

from funpipe.passes import (
    bucket,
    compose,
    donate,
    expand_updates,
    hoist_starts,
    merge_updates,
    sink_waits,
    split_updates,
    update_early,
)
from tests.passes.optimizer.steps import OPTIMIZERS, assert_same_bits, draw, initial, models, update_step
from tests.simulated import steps

PASSES = (
    split_updates(2),
    bucket(first_bytes=16, cap_bytes=64),
    hoist_starts(),
    merge_updates(),
    update_early(),
    sink_waits(),
    expand_updates(),
    donate(),
)


@given(
    name=st.sampled_from(sorted(OPTIMIZERS)),
    model=models(),
    chosen=st.lists(st.booleans(), min_size=len(PASSES), max_size=len(PASSES)),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=10, deadline=None)
def test_bits_stay(name, model, chosen, seed):
    optimizer, (shapes, dtypes) = OPTIMIZERS[name], model
    plain = update_step(optimizer, draw(seed, shapes, dtypes), dp=2)
    made = compose(*(each for each, wanted in zip(PASSES, chosen, strict=True) if wanted))(plain)
    batches = [draw(seed + i, shapes, dtypes) for i in (1, 2)]
    results = []
    for step in (made, plain):
        states = [initial(optimizer, draw(seed, shapes, dtypes)) for _ in batches]
        results.append(steps(step, states, batches))
    for (found, _), (expected, _) in zip(*results, strict=True):
        assert_same_bits(found, expected)
