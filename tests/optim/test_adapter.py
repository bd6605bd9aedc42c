from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch

from funpipe._errors import FunpipeError, FunpipeTypeError
from funpipe.optim import apply, from_pair, sgd


def each(function, *trees):
    return {name: function(*(tree[name] for tree in trees)) for name in trees[0]}


def zeros(params):
    return each(torch.zeros_like, params)


def momentum(grads, state, params):
    trace = each(lambda b, g: 0.9 * b + g, state["trace"], grads)
    return each(lambda b: -0.1 * b, trace), {"trace": trace}


def test_equals_the_same_optimizer_written_here():
    theirs, ours = from_pair(lambda params: {"trace": zeros(params)}, momentum), sgd(0.1, momentum=0.9)
    params = {"w": torch.randn(3, 2, generator=torch.Generator().manual_seed(0)), "b": torch.ones(())}
    found, state, expected, slots = params, theirs.init(params), params, ours.init(params)
    for step in range(3):
        found, state = apply(theirs, found, params, state, torch.tensor(step))
        expected, slots = apply(ours, expected, params, slots, torch.tensor(step))
    assert all(torch.equal(found[name], expected[name]) for name in params)
    assert torch.equal(state["trace"]["w"], slots["momentum"]["w"])


def test_slots_are_named_by_their_path():
    def update(grads, state, params):
        return grads, state

    optimizer = from_pair(lambda params: ({"mu": zeros(params)}, (), zeros(params)), update)
    assert sorted(optimizer.init({"w": torch.ones(1)})) == ["0.mu", "2"]
    assert optimizer.init({}) == {"0.mu": {}, "2": {}}


def test_a_bare_mirror_is_one_slot():
    optimizer = from_pair(zeros, lambda grads, state, params: (each(torch.neg, grads), grads))
    params, state = apply(
        optimizer, {"w": torch.ones(1)}, {"w": torch.ones(1)}, {"state": {"w": torch.zeros(1)}}, torch.tensor(0)
    )
    assert params["w"].item() == 0.0
    assert state["state"]["w"].item() == 1.0


def test_no_parameters_are_left_as_they_are():
    optimizer = from_pair(zeros, lambda grads, state, params: (grads, state))
    assert apply(optimizer, {}, {}, optimizer.init({}), torch.tensor(0)) == ({}, {"state": {}})


def per_leaf_norm(grads):
    return each(lambda g: -g / g.norm(), grads)


def across_leaves(grads):
    total = torch.stack([g.square().sum() for g in grads.values()]).sum().sqrt()
    return each(lambda g: g * (1.0 / total).clamp(max=1.0), grads)


def by_position(grads):
    return each(lambda g: g.flatten().cumsum(0).view_as(g), grads)


def by_shape(grads):
    return each(lambda g: 2 * g if g.dim() > 1 else g, grads)


@pytest.mark.parametrize(
    ("change", "scope"),
    [
        (lambda grads: each(torch.neg, grads), "element"),
        (per_leaf_norm, "leaf"),
        (by_position, "leaf"),
        (by_shape, "leaf"),
        (across_leaves, "tree"),
    ],
)
def test_what_an_update_reads_is_found_out(change, scope):
    assert from_pair(lambda params: (), lambda grads, state, params: (change(grads), state)).scope == scope


def test_a_counter_becomes_one_for_each_leaf():
    def update(grads, state, params):
        count = state["count"] + 1
        return each(lambda g: -g / count, grads), {"count": count}

    optimizer = from_pair(lambda params: {"count": torch.tensor(0)}, update)
    params = {"a": torch.zeros(2), "b": torch.zeros(1)}
    found, state = params, optimizer.init(params)
    for step in range(3):
        grads = each(torch.ones_like, params)
        found, state = apply(optimizer, found, grads, state, torch.tensor(step))
    assert optimizer.scope == "leaf"
    assert state == {"count": {"a": torch.tensor(3), "b": torch.tensor(3)}}
    torch.testing.assert_close(found["a"], torch.full((2,), -(1 + 1 / 2 + 1 / 3)))


def test_a_number_in_the_state_is_refused():
    init = lambda params: {"count": 0, "m": zeros(params)}  # noqa: E731
    with pytest.raises(FunpipeError, match=r"holds int 0 at 'count'.*torch\.tensor\(0\).*gives the step"):
        from_pair(init, lambda grads, state, params: (grads, state))


def test_a_value_that_is_read_in_python_is_refused():
    def update(grads, state, params):
        return each(lambda g: -g / float(g.norm()), grads), state

    with pytest.raises(FunpipeError, match=r"cannot be traced without values.*float\(x\).*clip_by_global_norm"):
        from_pair(lambda params: (), update)


def test_a_state_that_changes_its_structure_is_refused():
    optimizer = from_pair(zeros, lambda grads, state, params: (grads, (state, state)))
    params = {"w": torch.ones(1)}
    with pytest.raises(FunpipeError, match=r"the state changed from"):
        apply(optimizer, params, params, optimizer.init(params), torch.tensor(0))


def test_a_pair_that_fails_on_the_trial_says_so():
    with pytest.raises(FunpipeError, match=r"fails on a trial.*'weight'.*leaves of any name"):
        from_pair(lambda params: (), lambda grads, state, params: (grads["weight"], state))


class Momentum(NamedTuple):
    trace: list


class GradientTransformation(NamedTuple):
    """As TorchOpt's: its state holds lists in the order of the sorted names, its update has keywords."""

    init: Callable
    update: Callable


def torchopt_sgd(lr, momentum):
    def init(params):
        return (Momentum([torch.zeros_like(p) for _, p in sorted(params.items())]), ())

    def update(updates, state, *, params=None, inplace=True):
        assert not inplace
        trace = [momentum * b + g for b, (_, g) in zip(state[0].trace, sorted(updates.items()), strict=True)]
        new = dict(zip(sorted(updates), (-lr * b for b in trace), strict=True))
        return new, (Momentum(trace), ())

    return GradientTransformation(init, update)


def test_a_pair_of_torchopt():
    theirs, ours = from_pair(torchopt_sgd(0.1, 0.9)), sgd(0.1, momentum=0.9)
    params = {"w": torch.randn(3, 2, generator=torch.Generator().manual_seed(0)), "b": torch.ones(())}
    found, state, expected, slots = params, theirs.init(params), params, ours.init(params)
    for step in range(3):
        found, state = apply(theirs, found, params, state, torch.tensor(step))
        expected, slots = apply(ours, expected, params, slots, torch.tensor(step))
    assert theirs.scope == "element"
    assert all(torch.equal(found[name], expected[name]) for name in params)
    assert torch.equal(state["0.trace"]["w"], slots["momentum"]["w"])


def test_what_is_read_may_be_said():
    """A pair for matrices alone, which no trial with a vector can run."""
    optimizer = from_pair(zeros, lambda g, state, params: (each(lambda x: -x @ x.T, g), state), scope="leaf")
    params = {"w": torch.eye(2)}
    assert torch.equal(
        apply(optimizer, params, params, optimizer.init(params), torch.tensor(0))[0]["w"], 0 * params["w"]
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [((3,), r"got int and NoneType; pass two functions"), ((zeros, zeros, "row"), r"scope is 'row'; use one of")],
)
def test_no_pair_is_refused(arguments, text):
    with pytest.raises(FunpipeTypeError, match=text):
        from_pair(*arguments)
