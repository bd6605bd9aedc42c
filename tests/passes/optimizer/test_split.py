import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from funpipe._errors import PassError
from funpipe.passes import split_updates
from tests.passes.optimizer.steps import (
    OPTIMIZERS,
    assert_same_bits,
    calls_of,
    draw,
    initial,
    models,
    trained,
    update_step,
)

PARAMS = draw(0)
ALL = tuple(f"params.{name}" for name in sorted(PARAMS))


@pytest.mark.parametrize("name", OPTIMIZERS)
@given(model=models(), keys=st.lists(st.integers(0, 2), min_size=5, max_size=5), seed=st.integers(0, 2**32))
@settings(max_examples=4, deadline=None)
def test_any_partition_computes_the_same_bits(name, model, keys, seed):
    shapes, dtypes = model
    params = draw(seed, shapes, dtypes)
    step = update_step(OPTIMIZERS[name], params)
    split = split_updates(lambda leaf: keys[int(leaf[-1])])(step)
    state, batches = initial(OPTIMIZERS[name], params), [draw(seed + i, shapes, dtypes) for i in range(2)]
    assert_same_bits(trained(split, state, batches), trained(step, state, batches))


@pytest.mark.parametrize(
    ("partition", "found"),
    [
        (1, [ALL]),
        (2, [ALL[:2], ALL[2:]]),
        (100, [(name,) for name in ALL]),
        (lambda leaf: leaf[-1] in "03", [(ALL[0], ALL[3]), ALL[1:3]]),
        ([["leaf1"], ["params.leaf3", "leaf0"]], [(ALL[0], ALL[3]), (ALL[1],), (ALL[2],)]),
    ],
)
def test_kinds_of_partitions(partition, found):
    step = update_step(OPTIMIZERS["adam"], PARAMS)
    split = split_updates(partition)(step)
    assert calls_of(split) == found
    assert split.graph.outputs == step.graph.outputs


def test_parts_of_about_as_many_bytes():
    params = {f"leaf{i}": torch.ones(10 if i else 30) for i in range(4)}
    split = split_updates(2)(update_step(OPTIMIZERS["sgd"], params))
    assert calls_of(split) == [("params.leaf0",), tuple(f"params.leaf{i}" for i in range(1, 4))]


@pytest.mark.parametrize("partition", [0, -1, True, 1.5, "leaf0", ["leaf0"], None])
def test_what_is_no_partition(partition):
    with pytest.raises(PassError, match=r"a partition is .*: pass a number of parts from 1 on, a function from a"):
        split_updates(partition)


def test_names_that_mean_no_leaf():
    step = update_step(OPTIMIZERS["adam"], PARAMS)
    with pytest.raises(PassError, match=r"names 'leaf9', and no update has such a leaf; use one of 'params.leaf"):
        split_updates([["leaf9"]])(step)


def test_names_that_mean_two_leaves():
    params = {"a.w": torch.ones(1), "b.w": torch.ones(1)}
    step = update_step(OPTIMIZERS["sgd"], params)
    with pytest.raises(PassError, match=r"names 'w', which means 2 leaves; use one of \['params.a.w', 'params.b.w'\]"):
        split_updates([["w"]])(step)


def test_groups_and_dtypes_are_updates_of_their_own():
    params = {**draw(0), "leaf4": torch.ones(3, dtype=torch.bfloat16)}
    assert calls_of(update_step(OPTIMIZERS["groups"], params)) == [ALL[:2], ALL[2:], ("params.leaf4",)]
