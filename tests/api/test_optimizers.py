"""Optimizers of whole leaves, averages and accumulation in a train step: compiled, saved, as graphs, evaluated."""

import optree
import pytest
import torch

import funpipe as fp
from funpipe._errors import FunpipeTypeError, StateError
from funpipe.backends.emit import emit
from funpipe.passes import donate, expand_updates, fuse_updates, merge_updates, rebucket, split_updates
from tests.api.models import batch_of, batches, loss_fn, params_of, same_bits, step_of, trained
from tests.api.optimizer_ranks import trained_tied

OPTIMIZERS = {
    "muon": fp.optim.chain(fp.optim.clip_by_global_norm(0.05), fp.optim.muon(0.02, rest=fp.optim.adamw(1e-2))),
    "adafactor": fp.optim.adafactor(0.05),
    "all": fp.optim.accumulate(fp.optim.ema(fp.optim.muon(0.02, rest=fp.optim.lion(1e-2)), decay=0.5), steps=2),
}
CUT = rebucket(60, 140)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_checkpoints_go_from_one_layout_to_the_other(name):
    one = step_of(loss_fn, OPTIMIZERS[name])
    other = step_of(loss_fn, OPTIMIZERS[name], passes=CUT, stages=2)
    state, _ = trained(one, params_of(), batches(3))
    moved = other.load(other.init(params_of(7), batch_of()), one.state_dict(state))
    back = one.load(one.init(params_of(7), batch_of()), other.state_dict(moved))
    assert all(torch.equal(back.values[n], t) for n, t in state.values.items())
    assert same_bits(one(back, batch_of())[0].values, one(state, batch_of())[0].values)


@pytest.mark.parametrize("updates", ["node", "expanded"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_as_a_graph(name, updates):
    step = step_of(loss_fn, OPTIMIZERS[name])
    expected = step.gather(trained(step, params_of(), batches(3))[0])
    compiled = fp.compile_step(step.as_graph(updates), backend="interpret")
    values = step.values_of(step.init(params_of(), batch_of()))
    for batch in batches(3):
        values, _ = compiled(values, batch)
    assert same_bits(step.gather(step.state_of(values)), expected)


@pytest.mark.parametrize(
    "passes",
    [
        [split_updates(3)],
        [split_updates(2), merge_updates()],
        [expand_updates()],
        [expand_updates(flat=True)],
        [fuse_updates(), donate()],
    ],
    ids=["split", "merge", "expand", "flat", "fuse and donate"],
)
def test_passes_over_its_graph_keep_the_bits(passes):
    """What no kernel of torch computes stays as it is."""
    step = step_of(loss_fn, OPTIMIZERS["adafactor"])
    expected = step.gather(trained(step, params_of(), batches(2))[0])
    graph = fp.passes.compose(*passes)(step.as_graph())
    compiled = fp.compile_step(graph, backend="interpret")
    values = step.values_of(step.init(params_of(), batch_of()))
    for batch in batches(2):
        values, _ = compiled(values, batch)
    assert same_bits(step.gather(step.state_of(values)), expected)


@pytest.mark.full
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_compiled_step(name):
    found = []
    for options in ({}, {"backend": "step", "stages": 2}):
        step = step_of(loss_fn, OPTIMIZERS[name], **options)
        found.append(step.gather(trained(step, params_of(), batches(3))[0]))
    torch.testing.assert_close(found[0], found[1])


def equal_layers(params, x):
    for weight in params:
        x = torch.tanh(x @ weight)
    return x.square().mean()


def test_equal_leaves_are_one_graph():
    """The time to compile does not grow with the number of layers."""
    optimizer = fp.optim.muon(0.02)
    step = step_of(equal_layers, optimizer)
    step.init([torch.eye(4)] * 6, batch_of()["x"][:, :4])
    text = emit(step.lowered.all, 0, optimizer, 0).source
    assert text.count("update0(arguments)") == 6
    assert "update1" not in text


def test_averages_are_gathered_and_evaluated():
    step = step_of(loss_fn, fp.optim.ema(fp.optim.sgd(0.1), decay=0.5), stages=2)
    state, _ = trained(step, params_of(), batches(2))
    averages = step.ema(state)
    assert optree.tree_structure(averages) == optree.tree_structure(params_of())
    found = fp.eval_step(loss_fn, like=step, params="ema")(state, batch_of())["loss"]
    plain = fp.eval_step(loss_fn, like=step)(state, batch_of())["loss"]
    torch.testing.assert_close(found, loss_fn(averages, batch_of()))
    assert not torch.equal(found, plain)
    assert state.status == "ready"


def test_averages_of_matrices_and_of_parts():
    step = step_of(loss_fn, OPTIMIZERS["all"], passes=CUT)
    state, _ = trained(step, params_of(), batches(4))
    found = fp.eval_step(loss_fn, like=step, params="ema")(state, batch_of())["loss"]
    torch.testing.assert_close(found, loss_fn(step.ema(state), batch_of()))


def test_two_ranks():
    """Averages, slots and matrices of all stages, and a tied leaf whose copy is on the other rank."""
    expected = trained_tied(None)
    for found in fp.launch(trained_tied, 2, 2, timeout=120):
        torch.testing.assert_close(found, expected)


def test_a_frozen_leaf_is_its_own_average():
    params = params_of()
    optree.tree_map_(lambda leaf: leaf.requires_grad_(True), params)
    params["first"]["bias"].requires_grad_(False)
    step = step_of(loss_fn, fp.optim.ema(fp.optim.sgd(0.1), decay=0.5))
    state, _ = trained(step, params, batches(1))
    assert torch.equal(step.ema(state)["first"]["bias"], params["first"]["bias"])


def test_no_averages_are_an_error():
    step = step_of(loss_fn, fp.optim.sgd(0.1))
    state = step.init(params_of(), batch_of())
    for ask in (step.ema, lambda s: fp.eval_step(loss_fn, like=step, params="ema")(s, batch_of())):
        with pytest.raises(StateError, match=r"keeps no averages.*fp\.optim\.ema\(optimizer, decay=0\.999\)"):
            ask(state)


def test_other_parameters_are_refused():
    with pytest.raises(FunpipeTypeError, match=r"params is 'best'; use 'params', or 'ema'"):
        fp.eval_step(loss_fn, like=step_of(loss_fn), params="best")


def test_slots_of_the_whole_model():
    step = step_of(loss_fn, OPTIMIZERS["adafactor"], stages=2)
    slots = step.slots(step.init(params_of(), batch_of()))
    shapes = {slot: {n: tuple(t.shape) for n, t in leaves.items()} for slot, leaves in slots.items()}
    assert shapes["row_var"] == {"first.weight": (5, 1), "rest.0": (6, 1), "rest.1.0": (6, 1)}
    assert shapes["variance"] == {"first.bias": (6,)}


def test_the_plan_counts_slots_of_their_own_shapes():
    params, batch = params_of(), batch_of()
    from funpipe.planning.source import Source

    source = Source(loss_fn, params, batch, None, 0, OPTIMIZERS["adafactor"], fp.stages.Roofline())
    assert (source.slots("first.weight"), source.slots("first.bias")) == (4 * (5 + 6), 4 * 6)


def test_accumulated_steps_are_one_step_of_a_larger_batch():
    optimizer = fp.optim.chain(fp.optim.clip_by_global_norm(0.05), fp.optim.adamw(1e-2))
    one, many = step_of(loss_fn, optimizer), step_of(loss_fn, fp.optim.accumulate(optimizer, 2), stages=2)
    data = [batch_of(16, seed, torch.float64) for seed in range(2)]
    halves = [{n: t[part] for n, t in batch.items()} for batch in data for part in (slice(0, 8), slice(8, 16))]
    params = params_of(dtype=torch.float64)
    expected, found = (step.gather(trained(step, params, d)[0]) for step, d in ((one, data), (many, halves)))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
