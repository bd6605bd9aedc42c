import pytest
import torch

import funpipe as fp
from funpipe.graphs.communication import is_wait
from funpipe.passes import bucket, compose, sink_waits, update_early
from funpipe.passes.optimizer.calls import is_update, updates
from tests.passes.optimizer.steps import OPTIMIZERS, assert_same_bits, calls_of, draw, initial, trained, update_step

PARAMS = draw(0)


def order(step):
    """The waits and updates, in order."""
    kinds = {True: "wait", False: "update"}
    return [kinds[is_wait(node)] for node in step.graph.nodes if is_wait(node) or is_update(node)]


def averaged(name):
    return update_step(OPTIMIZERS[name], PARAMS, dp=2)


def test_each_update_comes_right_behind_its_wait():
    step = averaged("adamw")
    assert order(step) == ["wait"] * 4 + ["update"]
    early = update_early()(step)
    assert order(early) == ["wait", "update"] * 4
    assert calls_of(early) == [(f"params.leaf{i}",) for i in range(4)]


def test_a_bucket_is_updated_by_one_call():
    # leaf0 and leaf1 have 28 bytes together, leaf2 and leaf3 have 36.
    passes = compose(bucket(first_bytes=28, cap_bytes=36), update_early())
    early = passes(averaged("adamw"))
    assert sorted(map(len, calls_of(early))) == [2, 2]
    assert order(early) == ["wait", "update"] * 2


def test_a_coalesced_bucket_is_updated_by_one_call():
    passes = compose(bucket(first_bytes=28, cap_bytes=36, mode="coalesced"), update_early())
    early = passes(averaged("adamw"))
    assert sorted(map(len, calls_of(early))) == [2, 2]
    assert order(early) == ["wait", "wait", "update"] * 2
    state, batches = initial(OPTIMIZERS["adamw"], PARAMS), [[draw(1), draw(2)]]
    assert_same_bits(trained(early, state, batches), trained(averaged("adamw"), state, batches))


def test_waits_may_be_sunk_afterwards():
    passes = compose(update_early(), sink_waits())
    assert order(passes(averaged("adamw"))) == ["wait", "update"] * 4


def test_the_norm_needs_every_gradient():
    step = update_early()(averaged("clipped"))
    assert order(step) == ["wait"] * 4 + ["update"]


def test_gradients_that_nobody_sends_are_updated_together():
    step = update_step(OPTIMIZERS["adamw"], PARAMS)
    assert calls_of(update_early()(step)) == calls_of(step)


@pytest.mark.parametrize("name", ["adamw", "groups", "clipped"])
def test_bits_stay_on_two_ranks(name):
    step, state = averaged(name), initial(OPTIMIZERS[name], PARAMS)
    batches = [[draw(1), draw(2)], [draw(3), draw(4)]]
    assert_same_bits(trained(update_early()(step), state, batches), trained(step, state, batches))


def test_nothing_is_moved_before_what_it_reads():
    def step(state, grads):
        mean = {n: fp.pmean(g, "dp") for n, g in grads.items()}
        rate = fp.pmean(state["lr"] * grads["leaf0"].sum(), "dp")
        new, _ = fp.optim.apply(fp.optim.sgd(1.0), state["params"], mean, {}, torch.tensor(0), lr=rate)
        return {"params": new, "lr": state["lr"]}, {}

    state = {"params": PARAMS, "lr": torch.tensor(0.1)}
    traced = fp.trace_step(step, state, PARAMS, mesh=fp.MeshShape(1, 2))
    early = update_early()(traced)
    assert len(updates(early.graph)) == 4
    batches = [[draw(1), draw(2)]]
    assert_same_bits(trained(early, state, batches), trained(traced, state, batches))
