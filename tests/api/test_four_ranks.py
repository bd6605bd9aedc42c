"""Two replicas of two stages, four processes over gloo, train as one device does."""

import pytest
import torch
import torch.nn.functional as F

import funpipe as fp
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
from tests.api.ranks import CLIPPED, Normalized, Tied, four_ranks, normalized_loss, tied_loss, weighted


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def four(folder):
    return fp.launch(four_ranks, 4, folder, timeout=300)


@pytest.mark.parametrize("name", ["sgd", "weighted"])
def test_metrics_and_parameters_are_the_same_on_every_rank(four, name):
    for rank in four[1:]:
        assert all(same_bits(a, b) for a, b in zip(rank[name]["metrics"], four[0][name]["metrics"], strict=True))
        assert same_bits(rank[name]["params"], four[0][name]["params"])


def test_training_is_that_of_torch_on_the_global_batch(four):
    params, wanted = eager(loss_fn, params_of(), batches(5), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9))
    assert largest_loss_error([m["loss"] for m in four[0]["sgd"]["metrics"]], wanted) < 1e-5
    assert largest_error(four[0]["sgd"]["params"], params) < 1e-5


def test_weights_clipping_and_every_reducer_are_those_of_one_device(four):
    """The weight is that of the global batch, and `cat` goes over the replicas in order."""
    step = step_of(weighted, CLIPPED)
    state = step.init(params_of(), batch_of())
    for batch, found in zip(batches(5), four[0]["weighted"]["metrics"], strict=True):
        state, wanted = step(state, batch)
        assert found.keys() == wanted.keys()
        torch.testing.assert_close(found, dict(wanted), rtol=1e-5, atol=1e-6)


def test_all_four_copies_of_a_tied_leaf_are_equal_to_the_bit(four):
    copies = [rank["tied"]["copy"] for rank in four]
    assert all(torch.equal(copies[0], other) for other in copies)
    step = step_of(tied_loss, fp.optim.adamw(1e-2), num_microbatches=8)
    _, wanted = trained(step, fp.functionalize(Tied())[1], [torch.arange(16) % 7] * 5)
    assert largest_loss_error(four[3]["tied"]["losses"], wanted) < 1e-5


def replicas_of_torch():
    """Two modules that see half of each batch and take the mean of their gradients."""
    modules = [Normalized(), Normalized()]
    optimizers = [torch.optim.SGD(m.parameters(), 0.1, momentum=0.9) for m in modules]
    for batch in batches(2, rows=16):
        for module, x, y in zip(modules, batch["x"].chunk(2), batch["y"].chunk(2), strict=True):
            module.zero_grad()
            for a, b in zip(x.chunk(2), y.chunk(2), strict=True):
                (F.mse_loss(module(a), b) / 2).backward()
        for pair in zip(*(m.parameters() for m in modules), strict=True):
            mean = (pair[0].grad + pair[1].grad) / 2
            pair[0].grad, pair[1].grad = mean, mean.clone()
        for optimizer in optimizers:
            optimizer.step()
    return [dict(m.named_buffers()) for m in modules]


def test_buffers_are_replica_0s(four):
    wanted = replicas_of_torch()[0]
    for rank in four:
        torch.testing.assert_close(rank["first"], wanted)


def test_the_buffers_that_are_saved_are_replica_0s(four, folder):
    """Which replica wrote a leaf that all have was once up to the sizes of their other leaves."""
    step = step_of(normalized_loss, num_microbatches=2)
    _, params, buffers = fp.functionalize(Normalized())
    state = step.init(params, batch_of(rows=16), buffers=buffers)
    saved = fp.checkpoint.load(folder / "normalized", step.state_dict(state))
    assert same_bits(saved["buffers"], four[0]["first"])


def test_buffers_are_averaged_when_asked_for_and_counts_are_kept(four):
    for rank in four:
        assert same_bits(rank["mean"], four[0]["mean"])
        assert rank["mean"]["norms.0.num_batches_tracked"] == 4
    first, second = replicas_of_torch()
    name = "norms.0.running_mean"
    # averaged after each step: the first step's mean enters the second step of both
    assert not torch.allclose(four[0]["mean"][name], first[name])
    torch.testing.assert_close(four[0]["mean"][name], (first[name] + second[name]) / 2)


def test_gradients_are_those_of_torch_on_the_global_batch(four):
    """8 rows are 4 of each replica, one in each microbatch."""
    for seed in range(2):
        wanted, wanted_loss = torch.func.grad_and_value(loss_fn)(params_of(seed), batch_of(seed=seed))
        for rank in four:
            loss, grads = rank["gradients"][seed]
            torch.testing.assert_close(loss, wanted_loss)
            assert largest_error(grads, wanted) < 1e-5


def test_replicas_with_other_sizes_are_an_error_on_every_rank(four):
    for rank in four:
        assert rank["sizes"][0] == "BatchError"
        assert "global rank 2 got a batch of other shapes than rank 0" in rank["sizes"][1]
