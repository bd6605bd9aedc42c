"""Leaves of every kind: frozen, unused, integer, tied, closed over, and buffers that are threaded."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import funpipe as fp
from funpipe._errors import LossError, TraceError
from tests.api.models import batch_of, batches, eager, largest_error, leaves, same_bits, step_of, trained

SGD = fp.optim.sgd(0.1)


class Normalized(nn.Module):
    """Two stages, each with batch normalization; a buffer that nothing reads."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(n, 4) for n in (5, 4))
        self.norms = nn.ModuleList(nn.BatchNorm1d(4) for _ in range(2))
        self.head = nn.Linear(4, 2)
        self.register_buffer("unread", torch.arange(3))

    def forward(self, x):
        for i, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            x = torch.tanh(norm(layer(x)))
            x = fp.mark_stage_end(x) if i == 0 else x
        return self.head(x)


def normalized():
    torch.manual_seed(0)
    module = Normalized()
    apply, params, buffers = fp.functionalize(module)

    def loss(params, batch, *, buffers):
        out, buffers = apply(params, buffers, batch["x"])
        return fp.Out(F.mse_loss(out, batch["y"]), buffers=buffers)

    return module, loss, params, buffers


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
def test_buffers_go_through_the_microbatches_in_order_and_come_back(schedule):
    module, loss, params, buffers = normalized()
    step = step_of(loss, SGD, num_microbatches=2, schedule=schedule)
    state, _ = trained(step, params, batches(3), buffers=buffers)
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    for batch in batches(3):
        optimizer.zero_grad()
        for x, y in zip(batch["x"].chunk(2), batch["y"].chunk(2), strict=True):
            (F.mse_loss(module(x), y) / 2).backward()
        optimizer.step()
    found, held = step.gather(state)
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close((found | held)[name], tensor)
    assert held["norms.0.num_batches_tracked"] == 6


def test_the_buffers_given_to_init_never_change():
    _, loss, params, buffers = normalized()
    before = {n: b.clone() for n, b in buffers.items()}
    step = step_of(loss, SGD)
    state, _ = trained(step, params, batches(2), buffers=buffers)
    assert same_bits(buffers, before)
    held = step.gather(state)[1]
    assert list(held) == list(buffers)
    assert torch.equal(held["unread"], torch.arange(3))


def test_buffers_may_be_read_and_returned_as_they_were():
    def loss(params, batch, *, buffers):
        return fp.Out((batch["x"] @ params["w"] * buffers["scale"]).square().mean(), buffers=buffers)

    step = step_of(loss, SGD)
    state, losses = trained(step, {"w": torch.ones(5, 2)}, batches(1), buffers={"scale": torch.tensor(2.0)})
    torch.testing.assert_close(losses[0], 4 * (batch_of()["x"] @ torch.ones(5, 2)).square().mean())
    assert step.gather(state)[1] == {"scale": torch.tensor(2.0)}


def test_a_buffer_may_be_reported_as_it_was():
    """It once was read in the last stage, where the new ones of the microbatches before are not."""

    def loss(params, batch, *, buffers):
        new = buffers["mean"] * 0.5 + batch["x"].mean(0)
        h = fp.mark_stage_end((batch["x"] - new) @ params["w"])
        return fp.Out(h.square().mean(), aux={"old": fp.last(buffers["mean"])}, buffers={"mean": new})

    step = step_of(loss, SGD, num_microbatches=2)
    state = step.init({"w": torch.ones(5, 2)}, batch_of(), buffers={"mean": torch.zeros(5)})
    state, metrics = step(state, batch_of())
    torch.testing.assert_close(metrics["old"], batch_of()["x"][:4].mean(0))
    assert len(step.lowered.stages) == 2


@pytest.mark.parametrize(
    ("loss", "given", "text"),
    [
        (lambda p, b, *, buffers: fp.Out(p["w"].sum(), buffers=buffers), None, "takes buffers, but got none"),
        (lambda p, b, *, buffers: p["w"].sum(), {"b": torch.ones(1)}, "takes buffers, but does not return them"),
        (lambda p, b: fp.Out(p["w"].sum(), buffers={}), None, "returns buffers that it was not given"),
    ],
)
def test_buffers_that_are_not_threaded_are_an_error(loss, given, text):
    with pytest.raises(LossError, match=text):
        step_of(loss).init({"w": torch.ones(5, 2)}, batch_of(), buffers=given)


def partly(params, batch):
    h = fp.mark_stage_end(torch.tanh(batch["x"] @ params["w"] * params["frozen"]))
    return (h @ params["out"]).square().mean()


def partly_params():
    params = {
        "w": torch.ones(5, 4) / 5,
        "frozen": torch.full((4,), 2.0),
        "out": torch.ones(4, 1),
        "unused": torch.ones(3),
    }
    return {n: t.requires_grad_(n != "frozen") for n, t in params.items()} | {"count": torch.arange(3)}


def test_frozen_unused_and_integer_leaves_stay_as_they_are():
    step = step_of(partly, fp.optim.adamw(0.1, weight_decay=0.5))
    state, _ = trained(step, partly_params(), batches(3))
    params, _ = step.gather(state)
    for name in ("frozen", "unused", "count"):
        assert torch.equal(params[name], partly_params()[name])
    assert not torch.equal(params["w"], partly_params()["w"])


def test_frozen_and_unused_leaves_are_skipped_as_torch_skips_them():
    step = step_of(partly, fp.optim.adamw(1e-2, weight_decay=0.5))
    state, _ = trained(step, partly_params(), batches(3))
    wanted = partly_params()
    optimizer = torch.optim.AdamW([t for t in wanted.values() if t.requires_grad], 1e-2, weight_decay=0.5)
    for batch in batches(3):
        optimizer.zero_grad()
        partly(wanted, batch).backward()
        optimizer.step()
    for name, leaf in step.gather(state)[0].items():
        torch.testing.assert_close(leaf, wanted[name].detach())


def test_without_any_asking_for_a_gradient_every_floating_leaf_is_trained():
    step = step_of(partly, SGD)
    params = {n: t.detach() for n, t in partly_params().items()}
    state, _ = trained(step, params, batches(1))
    assert not torch.equal(step.gather(state)[0]["frozen"], params["frozen"])


class Tied(nn.Module):
    """A word's vector is also its row of the last layer."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(7, 4)
        self.mix = nn.Linear(4, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids):
        return self.head(torch.tanh(self.mix(fp.mark_stage_end(torch.tanh(self.words(ids))))))


def test_a_tied_leaf_is_one_leaf_with_the_sum_of_its_gradients():
    torch.manual_seed(0)
    module = Tied()
    apply, params, _ = fp.functionalize(module)
    ids = torch.arange(8) % 7
    step = step_of(lambda p, ids: F.cross_entropy(apply(p, {}, ids)[0], (ids + 1) % 7), SGD)
    state, _ = trained(step, params, [ids] * 3)
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(module(ids), (ids + 1) % 7).backward()
        optimizer.step()
    found, _ = step.gather(state)
    assert list(found) == ["words.weight", "mix.weight", "mix.bias"]
    assert largest_error(found, {n: p.detach() for n, p in module.named_parameters()}) < 1e-5


def test_the_same_tensor_under_two_names_is_two_leaves():
    shared = torch.ones(5, 2)
    step = step_of(lambda p, b: (b["x"] @ p["a"] + 2 * b["x"] @ p["b"] - b["y"]).square().mean(), SGD)
    state, _ = trained(step, {"a": shared, "b": shared}, batches(1))
    found, _ = step.gather(state)
    assert list(found) == ["a", "b"]
    assert not torch.equal(found["a"], found["b"])
    assert torch.equal(shared, torch.ones(5, 2))


def test_a_tensor_that_is_closed_over_is_a_constant():
    scale = torch.tensor([2.0, 3.0])
    wanted = {"w": torch.ones(5, 2)}

    def loss(params, batch):
        h = fp.mark_stage_end(batch["x"] @ params["w"])
        return (h * scale - batch["y"]).square().mean() * scale.sum()

    step = step_of(loss, SGD)
    state, losses = trained(step, wanted, batches(3))
    params, wanted_losses = eager(loss, wanted, batches(3), lambda p: torch.optim.SGD(p, 0.1))
    torch.testing.assert_close(losses, wanted_losses)
    assert largest_error(step.gather(state)[0], params) < 1e-5


def test_a_parameter_that_is_closed_over_is_an_error():
    weight = torch.ones(5, 2, requires_grad=True)
    with pytest.raises(TraceError, match=r"closes over a tensor of shape \(5, 2\) .* Pass it in params, or detach it"):
        step_of(lambda p, b: (b["x"] @ weight * p["w"]).mean()).init({"w": torch.ones(2)}, batch_of())


def test_leaves_of_several_dtypes_are_in_buckets_of_their_own():
    def loss(params, batch):
        h = torch.tanh(batch["x"].double() @ params["double"])
        return (h.float() @ params["single"]).square().mean()

    params = {"double": torch.ones(5, 3, dtype=torch.float64), "single": torch.ones(3, 1)}
    step = step_of(loss, fp.optim.adamw(1e-2), stages=1)
    state, losses = trained(step, params, batches(3))
    wanted, wanted_losses = eager(loss, params, batches(3), lambda p: torch.optim.AdamW(p, 1e-2))
    torch.testing.assert_close(losses, wanted_losses)
    assert [leaf.dtype for leaf in leaves(step.gather(state)[0])] == [torch.float64, torch.float32]
    assert len(step.lowered.all.layout.buckets) == 2
    assert largest_error(step.gather(state)[0], wanted) < 1e-5


def test_scalars_and_empty_leaves_are_leaves():
    def loss(params, batch):
        return (batch["x"].sum(1) * params["scale"] + params["none"].sum()).square().mean()

    params = {"scale": torch.tensor(2.0), "none": torch.ones(0, 3)}
    step = step_of(loss, SGD)
    state, _ = trained(step, params, batches(2))
    wanted, _ = eager(loss, params, batches(2), lambda p: torch.optim.SGD(p, 0.1))
    found, _ = step.gather(state)
    torch.testing.assert_close(found, wanted)


def test_strided_parameters_are_laid_out():
    params = {"w": torch.ones(2, 5).t(), "frozen": torch.arange(6.0).reshape(3, 2).t()[:, 0]}

    def loss(p, b):
        return ((b["x"] @ p["w"]) * p["frozen"]).square().mean()

    params["w"].requires_grad_()
    step = step_of(loss, SGD)
    state, losses = trained(step, params, batches(1))
    torch.testing.assert_close(losses[0], loss(params, batch_of()).detach())
    assert torch.equal(step.gather(state)[0]["frozen"], params["frozen"])


def noting(params, batch, *, buffers):
    """The loss is kept in a buffer that nothing reads."""
    h = fp.mark_stage_end(torch.tanh(batch["x"] @ params["w"]))
    loss = h.square().mean()
    return fp.Out(loss, buffers={"last": loss.detach(), "unused": buffers["unused"]})


@pytest.mark.parametrize("stages", [1, 2])
def test_a_buffer_that_is_only_updated_comes_back(stages):
    step = step_of(noting, SGD, num_microbatches=2, stages=stages)
    start = {"last": torch.tensor(-1.0), "unused": torch.arange(2)}
    state = step.init({"w": torch.ones(5, 2)}, batch_of(), buffers=start)
    assert same_bits(step.gather(state)[1], start)
    state, _ = step(state, batch_of())
    wanted = torch.tanh(batch_of()["x"][4:] @ torch.ones(5, 2)).square().mean()
    found = step.gather(state)[1]
    torch.testing.assert_close(found["last"], wanted)
    assert torch.equal(found["unused"], torch.arange(2))
    assert list(step.state_dict(state)["buffers"]) == ["last", "unused"]
    step(state, batch_of(rows=12))


def test_an_evaluation_may_update_buffers_that_the_step_does_not():
    def plain(params, batch, *, buffers):
        return fp.Out(noting(params, batch, buffers=buffers).loss, buffers=buffers)

    step = step_of(plain, SGD)
    start = {"last": torch.tensor(-1.0), "unused": torch.arange(2)}
    state = step.init({"w": torch.ones(5, 2)}, batch_of(), buffers=start)
    fp.eval_step(noting, like=step)(state, batch_of())
    assert same_bits(step.gather(state)[1], start)
