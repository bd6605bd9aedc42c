"""Draws in a trace: positions, keys as leaves, and the same masks where a checkpoint computes again."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import funpipe as fp
from funpipe._errors import TraceError
from funpipe.functional.random.draws import KEEP, NORMAL

W = torch.randn(6, 6)
X = torch.randn(4, 6)


def keys(traced):
    return [name for kind, name in traced.leaves if kind == "random"]


def draws(traced, *targets):
    """The keys that operators of some kinds read, in the order of the graph."""
    nodes = [n for n in (*traced.forward, *traced.backward) if n.target in (targets or (KEEP,))]
    return [n.args[0].meta["leaf"][1] for n in nodes]


def twice(params, x):
    return F.dropout(F.dropout(x @ params["w"], 0.2) @ params["w"], 0.3).square().sum()


def test_each_draw_has_its_position():
    traced = fp.trace(twice, {"w": W}, X)
    assert keys(traced) == ["0", "1"] and draws(traced) == ["0", "1"]


def test_a_mark_shifts_no_position():
    def marked(params, x):
        h = fp.mark_stage_end(F.dropout(x @ params["w"], 0.2))
        return F.dropout(h @ params["w"], 0.3).square().sum()

    assert draws(fp.trace(marked, {"w": W}, X)) == ["0", "1"]


def test_the_backward_keeps_bytes():
    (stage,) = fp.stages.partition(fp.trace(twice, {"w": W}, X), ())
    forward, backward = stage.regions
    shared = {n: forward.types[n].dtype for n in forward.outputs if n in backward.inputs and "random" in n}
    assert list(shared.values()) == [torch.uint8, torch.uint8]


def test_a_graph_that_draws_has_no_writes():
    traced = fp.trace(twice, {"w": W}, X)
    assert [n for n in traced.graph.nodes if n.op == "call_function" and n.target._schema.is_mutable] == []
    assert sum("empty" in n.name for n in traced.graph.nodes) == 0


def checkpointed(params, x):
    h = checkpoint(lambda h: F.dropout(torch.tanh(h @ params["w"]), 0.4), x, use_reentrant=False)
    h = checkpoint(lambda h: F.dropout(torch.tanh(h @ params["w"]), 0.4), h, use_reentrant=False)
    return F.dropout(h, 0.1).square().sum()


def test_a_checkpoint_draws_the_same_again():
    traced = fp.trace(checkpointed, {"w": W}, X)
    drawn = draws(traced)
    assert drawn[:3] == ["0", "1", "2"] and set(drawn[3:]) <= {"0", "1"} and keys(traced) == ["0", "1", "2"]


def test_a_checkpoint_changes_no_gradient():
    def plain(params, x):
        h = F.dropout(torch.tanh(x @ params["w"]), 0.4)
        h = F.dropout(torch.tanh(h @ params["w"]), 0.4)
        return F.dropout(h, 0.1).square().sum()

    found = [fp.value_and_grad(f, backend="interpret")({"w": W}, X, key=1) for f in (checkpointed, plain)]
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1])


def test_the_seed_of_torch_changes_nothing_and_stays():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = fp.trace(twice, {"w": W}, X).as_text()
    assert torch.equal(torch.rand(3), expected)
    assert fp.trace(twice, {"w": W}, X).as_text() == first


def test_a_seed_in_the_model_draws_the_same_twice():
    def seeded(params, x):
        parts = []
        for _ in range(2):
            torch.manual_seed(3)
            parts.append(torch.randn_like(x))
        return ((parts[0] + parts[1]) * (x @ params["w"])).sum()

    assert draws(fp.trace(seeded, {"w": W}, X), NORMAL) == ["0", "0"]


class Everything(nn.Module):
    """Each kind of module that draws in training."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attention = nn.MultiheadAttention(6, 2, dropout=0.2, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.2, batch_first=True)
        self.lstm = nn.LSTM(6, 6, num_layers=2, dropout=0.2, batch_first=True)
        self.gru = nn.GRU(6, 6, num_layers=2, dropout=0.2, batch_first=True)
        self.drops = nn.ModuleList([nn.Dropout(0.2, inplace=True), nn.AlphaDropout(0.2), nn.FeatureAlphaDropout(0.2)])
        self.channels = nn.Dropout1d(0.2)
        self.leaky = nn.RReLU()

    def forward(self, x):
        x = x + self.attention(x, x, x)[0]
        x = self.gru(self.lstm(self.layer(x))[0])[0]
        for drop in self.drops:
            x = drop(x * 1.0)
        return self.leaky(self.channels(x))


def everything(module):
    apply, params, buffers = fp.functionalize(module)
    return (lambda p, x: apply(p, buffers, x)[0].square().sum()), params


def test_modules_that_draw():
    loss, params = everything(Everything())
    evaluate = fp.value_and_grad(loss, backend="interpret")
    x = torch.randn(2, 3, 6)
    first, again, other = (evaluate(params, x, key=seed) for seed in (0, 0, 1))
    assert torch.equal(first[0], again[0]) and first[0] != other[0]
    assert all(torch.equal(first[1][n], again[1][n]) for n in params)


def test_a_slope_that_is_drawn_in_place():
    losses = []
    for inplace in (False, True):
        slopes = nn.RReLU(inplace=inplace)
        losses.append(lambda p, x, slopes=slopes: slopes(x @ p["w"]).square().sum())
    apart, in_place = (fp.value_and_grad(f, backend="interpret")({"w": W}, X, key=3) for f in losses)
    assert torch.equal(apart[0], in_place[0])
    torch.testing.assert_close(apart[1], in_place[1])


def test_an_evaluation_has_no_dropout():
    module = Everything()
    module.leaky = nn.Identity()  # it draws in training, and is no dropout
    loss, params = everything(module)
    x = torch.randn(2, 3, 6)
    step = fp.train_step(loss, fp.optim.sgd(0.1), backend="interpret", key=0)
    state = step.init(params, x)
    found = fp.eval_step(loss, like=step)(state, x)["loss"]
    module.eval()
    torch.testing.assert_close(found, loss(params, x))


def test_an_evaluation_draws_what_is_no_dropout_from_the_states_key():
    def noisy(params, x):
        return (F.dropout(x @ params["w"]) + torch.randn_like(x)).square().mean()

    step = fp.train_step(noisy, fp.optim.sgd(0.0), backend="interpret", key=0)
    state, evaluate = step.init({"w": W}, X), fp.eval_step(noisy, like=step)
    first, again = (evaluate(state, X)["loss"].item() for _ in range(2))
    state, _ = step(state, X)
    assert first == again != evaluate(state, X)["loss"].item()


def test_what_cannot_be_translated_names_the_line():
    def poisson(params, x):
        return (x @ params["w"]).sum() * torch.poisson(x.abs()).sum()

    with pytest.raises(TraceError, match=r"random numbers: aten.poisson.default at .*test_draws.py:\d+.*fp.random"):
        fp.trace(poisson, {"w": W}, X)


@pytest.mark.parametrize("randomness", ["different", "same"])
def test_under_vmap(randomness):
    def mapped(params, x):
        rows = torch.func.vmap(lambda row: F.dropout(row @ params["w"], 0.5), randomness=randomness)(x)
        return fp.Out(rows.sum(), aux={"zeros": fp.cat((rows == 0).detach())})

    step = fp.train_step(mapped, fp.optim.sgd(0.1), backend="interpret", key=0)
    zeros = step(step.init({"w": W}, X), X)[1]["zeros"]
    assert bool((zeros == zeros[0]).all()) == (randomness == "same") and bool(zeros.any())


def test_vmap_without_randomness_is_torchs_error():
    def mapped(params, x):
        return torch.func.vmap(lambda row: F.dropout(row @ params["w"], 0.5))(x).sum()

    with pytest.raises(TraceError, match="randomness"):
        fp.trace(mapped, {"w": W}, X)


def test_the_loss_gets_the_key_of_its_microbatch():
    def loss(params, x, *, key):
        return fp.Out((x @ params["w"]).square().mean(), aux={"key": fp.cat(key.reshape(1))})

    step = fp.train_step(loss, fp.optim.sgd(0.1), num_microbatches=2, backend="interpret", key=4)
    state = step.init({"w": W}, X)
    for number in range(2):
        state, metrics = step(state, X)
        of_step = fp.random.fold_in(fp.random.key(4), number)
        assert metrics["key"].tolist() == [int(fp.random.fold_in(of_step, i)) for i in range(2)]


def test_gradients_are_those_of_eager_with_the_same_masks():
    """The masks, drawn by hand with the keys that the documentation names."""
    base = fp.random.fold_in(fp.random.fold_in(fp.random.key(9), 0), 0)
    masks = [fp.random.dropout(fp.random.fold_in(base, n), torch.ones(4, 6), p) for n, p in enumerate((0.2, 0.3))]
    w = W.clone().requires_grad_()
    loss = (((X @ w) * masks[0]) @ w * masks[1]).square().sum()
    loss.backward()
    found, gradients = fp.value_and_grad(twice, backend="interpret")({"w": W}, X, key=9)
    torch.testing.assert_close(found, loss.detach())
    torch.testing.assert_close(gradients["w"], w.grad)
