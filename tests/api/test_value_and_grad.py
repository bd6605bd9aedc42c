"""Gradients through the pipeline are those of torch.func on the uncut function."""

import optree
import pytest
import torch
from torch import Tensor

import funpipe as fp
from funpipe._errors import TreeError
from tests.api.models import batch_of, largest_error, loss_fn, params_of, same_bits


def gradients_of(loss=loss_fn, **options):
    return fp.value_and_grad(loss, num_microbatches=4, backend="interpret", **options)


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
@pytest.mark.parametrize("stages", [1, 2, 3])
def test_it_is_that_of_torch(schedule, stages):
    function = gradients_of(schedule=schedule, stages=stages)
    for seed in range(2):  # the same step on other values
        params, batch = params_of(seed, torch.float64), batch_of(seed=seed, dtype=torch.float64)
        loss, grads = function(params, batch)
        wanted_grads, wanted = torch.func.grad_and_value(loss_fn)(params, batch)
        torch.testing.assert_close(loss, wanted)
        assert largest_error(grads, wanted_grads) < 1e-12
        assert same_bits(params, params_of(seed, torch.float64))


def test_every_cut_and_schedule_gives_the_same_bits():
    found = [
        gradients_of(schedule=schedule, stages=stages)(params_of(), batch_of())[1]
        for schedule in ("gpipe", "1f1b")
        for stages in (1, 2, 4)
    ]
    assert all(same_bits(found[0], other) for other in found[1:])


def partly(params: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
    h = torch.tanh(batch["x"] @ params["w"] * params["frozen"])
    return (fp.mark_stage_end(h) @ params["out"]).square().mean()


def partly_params() -> dict[str, Tensor]:
    params = {
        "w": torch.ones(5, 4) / 5,
        "frozen": torch.full((4,), 2.0),
        "out": torch.ones(4, 1),
        "unused": torch.ones(3),
    }
    return {n: t.requires_grad_(n != "frozen") for n, t in params.items()} | {"count": torch.arange(3)}


def test_frozen_unused_and_integer_leaves_have_zeros():
    params = partly_params()
    _, grads = gradients_of(partly)(params, batch_of())
    assert optree.tree_structure(grads) == optree.tree_structure(params)
    for name in ("frozen", "unused", "count"):
        assert torch.equal(grads[name], torch.zeros_like(params[name]))
    wanted = torch.autograd.grad(partly(params, batch_of()), [params["w"], params["out"]])
    torch.testing.assert_close([grads["w"], grads["out"]], list(wanted))
    assert not any(t.grad is not None for t in params.values())


def test_another_batch_size_is_traced_again():
    function = gradients_of()
    for rows in (8, 16, 4):
        loss, grads = function(params_of(), batch_of(rows))
        wanted_grads, wanted = torch.func.grad_and_value(loss_fn)(params_of(), batch_of(rows))
        torch.testing.assert_close(loss, wanted)
        assert largest_error(grads, wanted_grads) < 1e-5


def test_weighted_losses_are_divided_once():
    def weighted(params, batch):
        rows = (batch["x"] @ params).square().sum(1)
        return fp.Weighted((rows * batch["y"][:, 0].abs()).sum(), batch["y"][:, 0].abs().sum())

    def plain(params, batch):
        return weighted(params, batch).sum / weighted(params, batch).weight

    params = torch.ones(5, 2, dtype=torch.float64)
    loss, grads = gradients_of(weighted)(params, batch_of(dtype=torch.float64))
    wanted_grads, wanted = torch.func.grad_and_value(plain)(params, batch_of(dtype=torch.float64))
    torch.testing.assert_close((loss, grads), (wanted, wanted_grads))


def test_buffers_are_passed_on():
    def loss(params, batch, *, buffers):
        return fp.Out((batch["x"] @ params * buffers).square().mean(), buffers=buffers)

    _, grads = gradients_of(loss)(torch.ones(5, 1), batch_of(), torch.tensor(2.0))
    wanted = torch.func.grad(lambda p: (batch_of()["x"] @ p * 2).square().mean())(torch.ones(5, 1))
    torch.testing.assert_close(grads, wanted)


def test_other_parameters_in_a_later_call_name_the_leaf():
    function = gradients_of()
    function(params_of(), batch_of())
    with pytest.raises(TreeError, match=r"params: leaf 'first\.bias' is float32\[7\], but float32\[6\] was expected"):
        function(params_of(width=7), batch_of())
    with pytest.raises(TreeError, match="params: missing 'rest.0'"):
        function({"first": params_of()["first"]}, batch_of())


def test_gradients_are_new_tensors():
    function = gradients_of()
    _, first = function(params_of(), batch_of())
    kept = optree.tree_map(torch.clone, first)
    function(params_of(1), batch_of(seed=1))
    assert same_bits(first, kept)


@pytest.mark.parametrize("first", [True, False])
def test_other_trained_leaves_in_a_later_call_name_the_leaf(first):
    def asking(frozen):
        return {n: t.detach().requires_grad_(n == "w" or frozen) for n, t in partly_params().items() if n != "count"}

    function = gradients_of(partly)
    function(asking(first), batch_of())
    function(asking(first), batch_of())
    words = ("trained", "frozen") if first else ("frozen", "trained")
    with pytest.raises(
        TreeError, match="leaf 'frozen' was {} in the first call and is {} .* make another".format(*words)
    ):
        function(asking(not first), batch_of())


def test_asking_for_the_gradients_of_all_is_asking_for_none():
    function = gradients_of()
    _, wanted = function(params_of(), batch_of())
    _, found = function(optree.tree_map(lambda t: t.requires_grad_(), params_of()), batch_of())
    assert same_bits(found, wanted)
