"""A private step takes the mean of the samples' clipped gradients, however the model is cut."""

import pytest
import torch

import funpipe as fp
from funpipe._errors import BatchError, FunpipeError, FunpipeTypeError, LossError, StateError
from tests.api.transforms import batch_of, net, params_of, plain

P, B = params_of(), batch_of()
BOUND = 0.9


def samples(batch):
    return [{n: t[i : i + 1] for n, t in batch.items()} for i in range(len(batch["x"]))]


def clipped_one_by_one(loss_fn, params, batch, bound=BOUND):
    """The sum of the clipped gradients, one sample after the other, and how many were clipped."""
    total, count = {n: torch.zeros_like(t) for n, t in params.items()}, 0
    for sample in samples(batch):
        grads = torch.func.grad(loss_fn)(params, sample)
        norm = torch.cat([g.flatten() for g in grads.values()]).norm()
        count += int(norm > bound)
        total = {n: total[n] + g * min(1.0, bound / float(norm)) for n, g in grads.items()}
    return total, count


def step_of(loss_fn=plain, optimizer=None, bound=BOUND, **how):
    how = {"num_microbatches": 4, "stages": 2, "backend": "interpret"} | how
    return fp.private_step(loss_fn, optimizer or fp.optim.sgd(1.0), max_norm=bound, **how)


def one_step(step, params=P, batch=B):
    """What the parameters lose in a step, and the metrics."""
    state, metrics = step(step.init(params, batch), batch)
    after = step.gather(state)[0]
    return {n: params[n] - after[n] for n in params}, metrics


@pytest.mark.parametrize(("stages", "schedule", "count"), [(1, "gpipe", 1), (2, "1f1b", 2), (4, "zbv", 8)])
def test_it_is_the_mean_of_the_gradients_clipped_one_by_one(stages, schedule, count):
    wanted, clipped = clipped_one_by_one(plain, P, B)
    assert 0 < clipped < 8
    found, metrics = one_step(step_of(stages=stages, schedule=schedule, num_microbatches=count))
    torch.testing.assert_close(found, {n: g / 8 for n, g in wanted.items()}, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(metrics["loss"], plain(P, B))
    assert metrics["clipped"] == clipped / 8


@pytest.mark.parametrize("stages", [1, pytest.param(2, marks=pytest.mark.full)])
def test_compiled(stages):
    params = params_of(layers=2)
    found, _ = one_step(step_of(num_microbatches=stages, stages=stages, backend="step"), params)
    wanted, _ = clipped_one_by_one(plain, params, B)
    torch.testing.assert_close(found, {n: g / 8 for n, g in wanted.items()}, rtol=1e-9, atol=1e-12)


def test_in_one_pass():
    """The transform of the loss function gives the same gradient."""
    f = fp.value_and_grad(fp.per_sample_clipped(plain, BOUND), num_microbatches=2, stages=2, backend="interpret")
    loss, grads = f(P, B)
    wanted, _ = clipped_one_by_one(plain, P, B)
    torch.testing.assert_close(grads, {n: g / 8 for n, g in wanted.items()}, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(loss, plain(P, B))


def test_padding_counts_zero():
    def padded(params, batch):
        rows = (net(params, batch["x"]) - batch["y"]).square().mean(1)
        return fp.Weighted((rows * batch["real"]).sum(), batch["real"].sum())

    real = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    found, metrics = one_step(step_of(padded), batch={**B, "real": real})
    kept = {n: t[real > 0] for n, t in B.items()}
    wanted, _ = clipped_one_by_one(plain, P, kept)
    torch.testing.assert_close(found, {n: g / 6 for n, g in wanted.items()}, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(metrics["loss"], plain(P, kept))


def test_tied_weights_and_frozen_leaves():
    def loss(params, batch):
        hidden = torch.tanh(batch["x"] @ params["tied"] * params["scale"])
        return (hidden @ params["tied"].T - batch["y"]).square().mean()

    frozen = torch.tensor(2.0, dtype=torch.float64)
    params = {"tied": P["0.w"].clone().requires_grad_(), "scale": frozen}
    wanted, _ = clipped_one_by_one(lambda p, b: loss({**p, "scale": frozen}, b), {"tied": P["0.w"]}, B, 0.3)
    found, _ = one_step(step_of(loss, bound=0.3), params)
    torch.testing.assert_close(found["tied"].detach(), wanted["tied"] / 8, rtol=1e-9, atol=1e-12)
    assert found["scale"] == 0


def test_batches_that_count_samples_along_another_dimension():
    def loss(params, batch):
        return (net(params, batch["x"].T) - batch["shift"]).square().mean()

    batch = {"x": B["x"].T.contiguous(), "shift": torch.ones(4, dtype=torch.float64)}
    step = step_of(loss, batch_spec={"x": 1, "shift": None})
    found, _ = one_step(step, batch=batch)
    wanted, _ = clipped_one_by_one(lambda p, b: (net(p, b["x"]) - 1).square().mean(), P, B)
    torch.testing.assert_close(found, {n: g / 8 for n, g in wanted.items()}, rtol=1e-9, atol=1e-12)


def test_other_sizes_of_batches():
    step = step_of(num_microbatches=2)
    state = step.init(P, B)
    for rows in (8, 4, 8):
        state, metrics = step(state, batch_of(rows=rows))
    assert state.step == 3 and metrics["clipped"] > 0


def drawn_by_key(params, batch, *, key):
    kept = fp.random.bernoulli(key, 0.5, batch.shape)
    return ((batch * kept) @ params["w"]).sum()


def drawn_by_dropout(params, batch):
    return (torch.nn.functional.dropout(batch, 0.5) @ params["w"]).sum()


@pytest.mark.parametrize("loss", [drawn_by_key, drawn_by_dropout])
@pytest.mark.parametrize("key", [0, 1])
def test_dropout_drops_the_same_in_both_passes(loss, key):
    """A sample's factor is that of the very gradient that it multiplies, so the clipped one has just this norm."""
    step = step_of(loss, bound=1e-3, key=key, num_microbatches=1, stages=1)
    found, _ = one_step(step, {"w": torch.zeros(50)}, torch.randn(1, 50))
    torch.testing.assert_close(found["w"].norm(), torch.tensor(1e-3))


def test_noise_is_the_same_for_every_cut_and_of_its_size():
    noise = fp.optim.add_noise(noise_multiplier=2.0, max_norm=BOUND, batch_size=8, key=1)
    optimizer = fp.optim.chain(noise, fp.optim.sgd(1.0))
    params = {n: t.repeat(1, 1) for n, t in P.items()}
    without, _ = one_step(step_of())
    one, _ = one_step(step_of(optimizer=optimizer, stages=1))
    four, _ = one_step(step_of(optimizer=optimizer, stages=4))
    torch.testing.assert_close(one, four, rtol=1e-9, atol=1e-11)
    drawn = torch.cat([(one[n] - without[n]).flatten() for n in params])
    assert abs(drawn.std() / (2.0 * BOUND / 8) - 1) < 0.3


NOISE = {"noise_multiplier": 2.0, "max_norm": BOUND, "batch_size": 8}


def drawn_in(key=None, own=None, **how):
    """What a step adds to leaves whose gradients are zero."""
    optimizer = fp.optim.chain(fp.optim.add_noise(**NOISE, key=own), fp.optim.sgd(1.0))
    step = step_of(lambda p, b: 0 * plain(p, b), optimizer=optimizer, key=key, **how)
    return one_step(step)[0]


def test_noise_from_the_key_of_the_step():
    found = drawn_in(key=5)
    torch.testing.assert_close(found, drawn_in(own=5, stages=1))
    assert not torch.equal(found["0.w"], drawn_in(key=6)["0.w"]) and not torch.equal(found["0.w"], found["1.w"])
    with pytest.raises(
        FunpipeError, match=r"draws random numbers, and the step has no key: .*add_noise\(\.\.\., key=0\)"
    ):
        drawn_in()


@pytest.mark.parametrize("updates", ["node", pytest.param("expanded", marks=pytest.mark.full)])
def test_noise_in_a_graph(updates):
    optimizer = fp.optim.chain(fp.optim.add_noise(**NOISE), fp.optim.sgd(1.0))
    params = params_of(layers=2)
    step = fp.train_step(plain, optimizer, num_microbatches=2, backend="interpret", key=3)
    values = step.values_of(step.init(params, B))
    values, _ = fp.compile_step(step.as_graph(updates), backend="interpret")(values, B)
    state, _ = step(step.init(params, B), B)
    torch.testing.assert_close(step.gather(step.state_of(values)), step.gather(state))


@pytest.mark.full
def test_compiled_noise():
    """Each leaf has noise of its own, also where leaves of one shape are updated by one kernel otherwise."""
    torch.testing.assert_close(drawn_in(key=5, stages=1, num_microbatches=1, backend="step"), drawn_in(key=5))


def test_its_state_is_saved_evaluated_and_loaded():
    step = step_of(optimizer=fp.optim.sgd(0.5, momentum=0.9))
    state, _ = step(step.init(P, B), B)
    evaluated = fp.eval_step(plain, like=step)(state, B)["loss"]
    torch.testing.assert_close(evaluated, plain(step.gather(state)[0], B))
    saved = {n: t.clone() if isinstance(t, torch.Tensor) else t for n, t in step.state_dict(state)["params"].items()}
    whole = step.state_dict(state) | {"params": saved}
    again = step.load(step.init(P, B), whole)
    first, second = (step.gather(step(s, B)[0])[0] for s in (again, state))
    torch.testing.assert_close(first, second)


def test_a_consumed_state():
    step = step_of()
    state = step.init(P, B)
    step(state, B)
    with pytest.raises(StateError, match="consumed"):
        step(state, B)


def test_buffers_mix_samples():
    def loss(params, batch, *, buffers):
        return fp.Out(plain(params, batch), buffers=buffers)

    with pytest.raises(LossError, match=r"private_step: the loss function takes buffers, .*\(torch\.nn\.GroupNorm\)"):
        step_of(loss)


@pytest.mark.parametrize("bound", [0, -1.0, True, "1"])
def test_a_bound_that_is_none(bound):
    with pytest.raises(FunpipeError, match="private_step: max_norm is .*; pass a number above 0"):
        step_of(bound=bound)


def test_a_precision_that_scales_the_loss():
    with pytest.raises(FunpipeError, match="norms of scaled gradients would be clipped: use a precision without"):
        step_of(precision="fp16")


def test_a_transform_around_it():
    step = step_of()
    state = step.init(P, B)
    with pytest.raises(FunpipeTypeError, match=r"fp\.private_step was called inside of a transform of torch\.func"):
        torch.func.grad(lambda x: step(state, {**B, "x": x})[1]["loss"])(B["x"])


def test_averages_and_slots():
    step = step_of(optimizer=fp.optim.ema(fp.optim.sgd(0.5, momentum=0.9), decay=0.5))
    state, _ = step(step.init(P, B), B)
    after = step.gather(state)[0]
    torch.testing.assert_close(step.ema(state), {n: (P[n] + after[n]) / 2 for n in P})
    assert sorted(step.slots(state)) == ["ema", "momentum"]


def test_batches_without_samples():
    with pytest.raises(LossError, match="no leaf counts samples"):
        step_of(batch_spec=None).init(P, B)
    with pytest.raises(BatchError, match="7 rows"):
        step_of().init(P, batch_of(rows=7))
