import pytest
import torch

from funpipe._errors import FunpipeError
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


@pytest.mark.parametrize("change", [per_leaf_norm, across_leaves, by_position, by_shape])
def test_updates_that_are_not_elementwise_are_refused(change):
    with pytest.raises(FunpipeError, match=r"not elementwise.*clip_by_global_norm.*fp\.optim\.Optimizer"):
        from_pair(lambda params: (), lambda grads, state, params: (change(grads), state))


@pytest.mark.parametrize("counter", [0, torch.tensor(0)])
def test_counters_are_refused(counter):
    init = lambda params: {"count": counter, "m": zeros(params)}  # noqa: E731
    with pytest.raises(FunpipeError, match=r"at 'count'.*write it as fp\.optim\.Optimizer.*gives the step"):
        from_pair(init, lambda grads, state, params: (grads, state))


def test_a_state_that_changes_its_structure_is_refused():
    optimizer = from_pair(zeros, lambda grads, state, params: (grads, (state, state)))
    params = {"w": torch.ones(1)}
    with pytest.raises(FunpipeError, match=r"the state changed from"):
        apply(optimizer, params, params, optimizer.init(params), torch.tensor(0))


def test_a_pair_that_fails_on_the_trial_says_so():
    with pytest.raises(FunpipeError, match=r"fails on a trial.*'weight'.*leaves of any name"):
        from_pair(lambda params: (), lambda grads, state, params: (grads["weight"], state))
