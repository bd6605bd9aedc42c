"""Two processes over gloo train as one device does; one pair of them makes all checks, since each imports torch."""

import pytest
import torch

import funpipe as fp
from tests.api import ranks
from tests.api.models import (
    batch_of,
    batches,
    eager,
    largest_error,
    largest_loss_error,
    loss_fn,
    params_of,
    same_bits,
    step_of,
    trained,
)
from tests.api.ranks import CLIPPED, MOMENTUM, Normalized, Tied, normalized_loss, tied_loss, weighted

STEPS = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With a checkpoint that one process wrote after 3 steps."""
    folder = tmp_path_factory.mktemp("checkpoints")
    step = step_of(optimizer=CLIPPED)
    state, _ = trained(step, params_of(), batches(3))
    fp.checkpoint.save(folder / "from-one", step.state_dict(state))
    return folder


@pytest.fixture(scope="module")
def two(folder):
    return fp.launch(ranks.two_ranks, 2, folder, timeout=240)


def losses(rank):
    return [metrics["loss"] for metrics in rank["metrics"]]


def same_metrics(one, other):
    return all(same_bits(a, b) for a, b in zip(one["metrics"], other["metrics"], strict=True))


@pytest.mark.parametrize("name", ["sgd", "gpipe", "adamw", "weighted", "replicas"])
def test_metrics_and_parameters_are_the_same_on_both_ranks(two, name):
    assert same_metrics(two[0][name], two[1][name])
    assert same_bits(two[0][name]["params"], two[1][name]["params"])


@pytest.mark.parametrize("name", ["sgd", "gpipe"])
def test_twenty_steps_of_sgd_are_those_of_torch(two, name):
    params, wanted = eager(loss_fn, params_of(), batches(STEPS), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9))
    assert largest_loss_error(losses(two[0][name]), wanted) < 1e-5
    assert largest_error(two[0][name]["params"], params) < 1e-5


def test_twenty_steps_of_adamw_are_those_of_torch(two):
    _, wanted = eager(loss_fn, params_of(), batches(STEPS), lambda p: torch.optim.AdamW(p, 1e-2, weight_decay=0.01))
    assert largest_loss_error(losses(two[0]["adamw"]), wanted) < 1e-5


@pytest.mark.parametrize("name", ["sgd", "gpipe"])
def test_processes_change_no_bit(two, name):
    step = step_of(optimizer=MOMENTUM)
    state, wanted = trained(step, params_of(), batches(STEPS))
    assert same_bits(losses(two[0][name]), wanted)
    assert same_bits(two[0][name]["params"], step.gather(state)[0])


def test_weights_clipping_and_every_reducer_are_those_of_one_process(two):
    step = step_of(weighted, CLIPPED)
    state = step.init(params_of(), batch_of())
    for batch, found in zip(batches(5), two[0]["weighted"]["metrics"], strict=True):
        state, wanted = step(state, batch)
        assert same_bits(found, dict(wanted))
    assert same_bits(two[0]["weighted"]["params"], step.gather(state)[0])


def test_two_replicas_of_one_stage_are_one_device(two):
    step = step_of(weighted, CLIPPED, stages=1)
    state = step.init(params_of(), batch_of())
    for batch, found in zip(batches(5), two[0]["replicas"]["metrics"], strict=True):
        state, wanted = step(state, batch)
        assert found.keys() == wanted.keys()
        torch.testing.assert_close(found, dict(wanted))
    assert largest_error(two[0]["replicas"]["params"], step.gather(state)[0]) < 1e-4


def test_copies_of_a_tied_leaf_are_equal_to_the_bit(two):
    assert torch.equal(two[0]["tied"]["copy"], two[1]["tied"]["copy"])
    assert torch.equal(two[0]["tied"]["copy"], two[1]["tied"]["params"]["words.weight"])
    assert not torch.equal(two[0]["tied"]["copy"], Tied().words.weight)


def test_a_tied_leaf_is_trained_as_in_one_process(two):
    step = step_of(tied_loss, fp.optim.adamw(1e-2))
    state, wanted = trained(step, fp.functionalize(Tied())[1], [torch.arange(16) % 7] * 5)
    assert same_bits(two[1]["tied"]["losses"], wanted)
    assert same_bits(two[1]["tied"]["params"], step.gather(state)[0])


def test_buffers_of_both_stages_come_back_on_every_rank(two):
    _, params, buffers = fp.functionalize(Normalized())
    step = step_of(normalized_loss, num_microbatches=2)
    state, _ = trained(step, params, batches(2, rows=16), buffers=buffers)
    assert same_bits(two[0]["buffers"], step.gather(state)[1])
    assert same_bits(two[0]["buffers"], two[1]["buffers"])


def test_one_process_goes_on_from_what_two_saved(two, folder):
    step = step_of(optimizer=CLIPPED)
    state = step.init(params_of(9), batch_of())
    state = step.load(state, fp.checkpoint.load(folder / "from-two", step.state_dict(state)))
    assert state.step == 3
    for seed, found in zip(range(3, 6), two[0]["checkpoints"]["on"], strict=True):
        state, metrics = step(state, batch_of(seed=seed))
        assert torch.equal(metrics["loss"], found)
    assert same_bits(step.gather(state)[0], two[0]["checkpoints"]["params"])


def test_two_processes_go_on_from_what_one_saved(two):
    for rank in two:
        assert same_bits(rank["checkpoints"]["on"], rank["checkpoints"]["from_one"])
        assert rank["checkpoints"]["steps"] == 6


def test_an_evaluation_is_that_of_one_process(two):
    step = step_of()
    state = step.init(params_of(), batch_of())
    evaluate = fp.eval_step(weighted, like=step, num_microbatches=2)
    wanted = [dict(evaluate(state, batch_of(rows, 5))) for rows in (8, 4, 8)]
    state, metrics = step(state, batch_of())
    wanted.append(dict(evaluate(state, batch_of(seed=5))))
    for rank in two:
        assert same_bits(rank["evaluation"]["metrics"], wanted)
        assert torch.equal(rank["evaluation"]["loss"], metrics["loss"])


def test_gradients_are_those_of_torch_on_every_rank(two):
    for seed in range(2):
        wanted, wanted_loss = torch.func.grad_and_value(loss_fn)(params_of(seed), batch_of(seed=seed))
        for rank in two:
            loss, grads = rank["gradients"][seed]
            torch.testing.assert_close(loss, wanted_loss)
            assert largest_error(grads, wanted) < 1e-5


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        (
            "stages",
            "MeshError",
            "the model is cut into 1 stages, but the schedule '1f1b' needs 2 on 2 ranks: use stages=2",
        ),
        ("divide", "BatchError", "has 6 rows along dimension 0, which 4 microbatches do not divide"),
        ("dtype", "TreeError", "batch: leaf 'x' is float64[8,5], but was float32[8,5] in the batch given to init"),
        ("scalar", "LossError", "the loss has shape (2, 1), not that of a scalar; reduce it with .mean()"),
        (
            "sizes",
            "BatchError",
            "global rank 1 got a batch of other shapes than rank 0 in the same step: pass every rank",
        ),
        ("plans", "MeshError", "the ranks planned different steps: global rank 1 differs from rank 0 in"),
        ("functions", "MeshError", "the ranks planned different steps: global rank 1 differs from rank 0 in"),
        ("optimizers", "MeshError", "the ranks planned different steps: global rank 1 differs from rank 0 in"),
        ("alone", "MeshError", "mesh is None, but there are 2 processes"),
    ],
)
def test_a_mistake_is_one_clear_error_on_every_rank(two, name, kind, text):
    for rank in two:
        assert rank["mistakes"][name][0] == kind
        assert text in rank["mistakes"][name][1]


def test_a_wrong_evaluation_is_an_error_on_every_rank(two):
    for rank in two:
        assert rank["evaluation"]["wrong"][0] == "StageError"


def test_a_step_goes_on_after_mistakes(two):
    _, wanted = trained(step_of(), params_of(), batches(1))
    for rank in two:
        assert torch.equal(rank["mistakes"]["loss"], wanted[0])


def test_twenty_compiled_steps_are_those_of_torch_and_of_the_other_schedule():
    """Compiles: what runs on two ranks is the code that the compiler wrote."""
    two = fp.launch(ranks.two_compiled, 2, timeout=400)
    params, wanted = eager(loss_fn, params_of(), batches(STEPS), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9))
    for name in ("gpipe", "1f1b", "zb-h1"):
        assert same_metrics(two[0][name], two[1][name])
        assert largest_loss_error(losses(two[0][name]), wanted) < 1e-5
        assert largest_error(two[0][name]["params"], params) < 1e-5
    assert same_metrics(two[0]["gpipe"], two[0]["1f1b"])
    assert same_bits(two[0]["gpipe"]["params"], two[0]["1f1b"]["params"])


@pytest.mark.full
def test_compiled_sums_over_ranks_are_those_of_the_interpreter(two):
    """Compiles four steps."""
    found = fp.launch(ranks.two_compiled_replicas, 2, timeout=400)
    for name in ("weighted", "replicas"):
        for rank in found:
            for one, other in zip(rank[name]["metrics"], two[0][name]["metrics"], strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert torch.equal(found[0]["tied"]["copy"], found[1]["tied"]["copy"])
    assert largest_loss_error(found[0]["tied"]["losses"], two[0]["tied"]["losses"]) < 1e-5
    for rank in found:
        torch.testing.assert_close(rank["buffers"], rank["buffers_interpreted"])
