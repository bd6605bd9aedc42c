import pytest
import torch

import funpipe as fp
from funpipe.graphs import find
from funpipe.optim import Optimizer, adamw, chain, clip_by_global_norm
from funpipe.passes import compose, donate, expand_updates, fuse_updates, split_updates
from funpipe.passes.optimizer.calls import is_update
from tests.passes.optimizer.steps import OPTIMIZERS, assert_same_bits, draw, initial, step_of, trained, update_step

PARAMS = draw(0)
BATCHES = [draw(i) for i in range(1, 4)]


@pytest.mark.parametrize("flat", [False, True], ids=["leaves", "flat"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_bits_stay(name, flat):
    optimizer = OPTIMIZERS[name]
    step, state = step_of(name), initial(optimizer, PARAMS)
    out = expand_updates(flat)(step)
    assert not find(out.graph, is_update)
    assert_same_bits(trained(out, state, BATCHES), trained(step, state, BATCHES))


@pytest.mark.parametrize("flat", [False, True], ids=["leaves", "flat"])
def test_16_bits_and_a_learning_rate_that_is_a_leaf(flat):
    optimizer = chain(clip_by_global_norm(0.5), adamw(1.0))
    params, batch = draw(0, dtype=torch.bfloat16), draw(1, dtype=torch.bfloat16)
    step, state = update_step(optimizer, params, lr=0.1), initial(optimizer, params, lr=0.1)
    assert_same_bits(trained(expand_updates(flat)(step), state, [batch]), trained(step, state, [batch]))


def test_results_keep_their_names():
    step = update_step(OPTIMIZERS["adamw"], PARAMS)
    assert expand_updates()(step).graph.outputs == step.graph.outputs


def test_numbers_of_the_step_are_computed_once():
    step = compose(split_updates(4), expand_updates())(update_step(OPTIMIZERS["adam"], PARAMS))
    powers = find(step.graph, lambda node: str(node.target) == "aten.pow.Scalar")
    assert len(powers) == 2  # one for each beta


def test_a_flat_update_has_as_many_operators_for_any_number_of_leaves():
    def square_roots(count):
        params = {f"leaf{i}": torch.ones(3) for i in range(count)}
        graph = expand_updates(flat=True)(update_step(OPTIMIZERS["adam"], params)).graph
        return len(find(graph, lambda node: str(node.target) == "aten.sqrt.default" and node.type.shape))

    assert square_roots(2) == square_roots(7) == 1


def test_fused_operators_are_left_alone():
    step = fuse_updates()(update_step(OPTIMIZERS["adam"], PARAMS))
    assert len(find(expand_updates()(step).graph, is_update)) == 1


@pytest.mark.parametrize("flat", [False, True], ids=["leaves", "flat"])
def test_gradients_that_do_not_lie_in_rows(flat):
    def step(state, batch):
        turned = {"a": batch["a"].t(), "b": batch["b"]}
        new, _ = fp.optim.apply(OPTIMIZERS["sgd"], state, turned, {}, torch.tensor(0))
        return new, {}

    state, batch = draw(0, {"a": (3, 2), "b": (4,)}), draw(1, {"a": (2, 3), "b": (4,)})
    traced = fp.trace_step(step, state, batch)
    assert_same_bits(trained(expand_updates(flat)(traced), state, [batch]), trained(traced, state, [batch]))


def test_gradients_of_two_dtypes_are_not_put_into_one_tensor():
    kinds = dict.fromkeys(PARAMS, torch.float32) | {"leaf0": torch.bfloat16}
    traced = fp.trace_step(
        lambda state, batch: (fp.optim.apply(OPTIMIZERS["sgd"], state, batch, {}, torch.tensor(0))[0], {}),
        PARAMS,
        draw(1, dtype=kinds),
    )
    made = expand_updates(flat=True)(traced)
    assert not find(made.graph, lambda node: "cat" in str(node.target))
    assert_same_bits(trained(made, PARAMS, [draw(1, dtype=kinds)]), trained(traced, PARAMS, [draw(1, dtype=kinds)]))


@pytest.mark.parametrize("passes", [(), (donate(),)], ids=["", "donated"])
@pytest.mark.parametrize("flat", [False, True], ids=["leaves", "flat"])
def test_two_updates_one_after_the_other_and_a_slot_that_keeps_its_value(flat, passes):
    def scaled(grads, state, params, ctx):
        return {n: p - grads[n] * state["scale"][n] for n, p in params.items()}, state

    optimizer = Optimizer(lambda params: {"scale": {n: p.square() for n, p in params.items()}}, scaled)

    def step(state, batch):
        params, slots = state
        for _ in range(2):
            params, slots = fp.optim.apply(optimizer, params, batch, slots, torch.tensor(0))
        return (params, slots), {}

    def fresh():
        return draw(0), optimizer.init(draw(0))

    traced = fp.trace_step(step, fresh(), BATCHES[0])
    found = trained(compose(expand_updates(flat), *passes)(traced), fresh(), BATCHES)
    for new, old in zip(found, trained(traced, fresh(), BATCHES), strict=True):
        assert_same_bits(new, old)
