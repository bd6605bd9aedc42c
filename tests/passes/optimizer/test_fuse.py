import pytest
import torch

import funpipe as fp
from funpipe._errors import PassError
from funpipe.optim import adam, adamw, chain, clip_by_global_norm, sgd, warmup_cosine
from funpipe.passes import compose, fuse_updates, split_updates
from funpipe.passes.optimizer.calls import updates
from tests.passes.optimizer.steps import OPTIMIZERS, assert_same_bits, draw, initial, trained, update_step

PARAMS = draw(0)
BATCHES = [draw(i) for i in range(1, 6)]

LIKE_TORCH = {
    "adam": (adam, torch.optim.Adam, {"weight_decay": 0.1, "betas": (0.8, 0.95)}),
    "adamw": (adamw, torch.optim.AdamW, {"weight_decay": 0.1, "eps": 1e-6}),
    "sgd": (sgd, torch.optim.SGD, {"weight_decay": 0.1}),
    "momentum": (sgd, torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    "nesterov": (sgd, torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
}


def by_torch(make, params, batches, rates=None):
    """The parameters after some steps of an optimizer of torch."""
    leaves = {n: torch.nn.Parameter(p.clone()) for n, p in params.items()}
    optimizer = make(list(leaves.values()))
    for i, batch in enumerate(batches):
        for name, leaf in leaves.items():
            leaf.grad = batch[name].clone()
        if rates:
            optimizer.param_groups[0]["lr"] = rates[i]
        optimizer.step()
    return {n: leaf.detach() for n, leaf in leaves.items()}


def worst(found, expected):
    return max((found["params"][n] - expected["params"][n]).abs().max().item() for n in PARAMS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", LIKE_TORCH)
def test_the_bits_of_torch_optim_fused(name, dtype):
    ours, theirs, settings = LIKE_TORCH[name]
    params, batches = draw(0, dtype=dtype), [draw(i, dtype=dtype) for i in range(1, 6)]
    optimizer = ours(0.05, **settings)
    step = fuse_updates(strict=True)(update_step(optimizer, params))
    found = trained(step, initial(optimizer, params), batches)
    expected = by_torch(lambda leaves: theirs(leaves, lr=0.05, fused=True, **settings), params, batches)
    assert_same_bits(found["params"], expected)


@pytest.mark.parametrize("name", ["sgd", "nesterov", "adam", "adamw", "clipped", "masked", "groups"])
def test_near_the_update_as_it_was(name):
    optimizer = OPTIMIZERS[name]
    step, state = update_step(optimizer, PARAMS), initial(optimizer, PARAMS)
    fused = fuse_updates(strict=True)(step)
    assert not [call for call in updates(fused.graph) if call.kind == "update"]
    assert worst(trained(fused, state, BATCHES), trained(step, state, BATCHES)) < 1e-6


def test_a_learning_rate_that_is_a_leaf():
    optimizer = adamw(1.0)
    step = fuse_updates(strict=True)(update_step(optimizer, PARAMS, lr=0.1))
    state, rates = initial(optimizer, PARAMS, lr=0.1), [0.1, 0.02, 0.3]
    for rate, batch in zip(rates, BATCHES, strict=False):
        state = trained(step, {**state, "lr": torch.tensor(rate, dtype=torch.float32)}, [batch])
    exact = [torch.tensor(rate, dtype=torch.float32).double().item() for rate in rates]
    expected = by_torch(lambda leaves: torch.optim.AdamW(leaves, fused=True), PARAMS, BATCHES[:3], exact)
    assert_same_bits(state["params"], expected)


def test_a_schedule_of_learning_rates():
    optimizer = adam(warmup_cosine(0.1, 2, 5))
    step, state = update_step(optimizer, PARAMS), initial(optimizer, PARAMS)
    assert worst(trained(fuse_updates(True)(step), state, BATCHES), trained(step, state, BATCHES)) < 1e-6


def test_gradients_that_do_not_lie_in_rows():
    def step(state, batch):
        new, opt = fp.optim.apply(optimizer, {"w": state["w"]}, {"w": batch.t()}, state["opt"], torch.tensor(0))
        return {"opt": opt, **new}, {}

    optimizer, w, batch = adam(0.1), torch.randn(3, 5), torch.randn(5, 3)
    state = {"w": w, "opt": optimizer.init({"w": w})}
    traced = fp.trace_step(step, state, batch)
    found, expected = (trained(made, state, [batch]) for made in (fuse_updates(True)(traced), traced))
    torch.testing.assert_close(found["w"], expected["w"], rtol=0, atol=1e-6)


def test_parts_are_fused_one_by_one():
    step = compose(split_updates(2), fuse_updates())(update_step(OPTIMIZERS["adam"], PARAMS))
    assert [call.kind for call in updates(step.graph)] == ["_fused_adam"] * 2
    whole = fuse_updates()(update_step(OPTIMIZERS["adam"], PARAMS))
    state = initial(OPTIMIZERS["adam"], PARAMS)
    assert_same_bits(trained(step, state, BATCHES), trained(whole, state, BATCHES))


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (OPTIMIZERS["dampening"], "dampening makes its first step another operator"),
        (OPTIMIZERS["pair"], "its settings are not known"),
        (chain(fp.optim.Transform(lambda params: {}, lambda g, s, p, c: (g, s)), sgd(0.1)), "settings are not known"),
    ],
)
def test_what_cannot_be_fused(optimizer, message):
    step, state = update_step(optimizer, PARAMS), initial(optimizer, PARAMS)
    with pytest.raises(PassError, match=rf"update .* cannot be fused: .*{message}.*; leave strict out"):
        fuse_updates(strict=True)(step)
    assert_same_bits(trained(fuse_updates()(step), state, BATCHES), trained(step, state, BATCHES))


def test_gradients_of_another_dtype_are_not_fused():
    def step(state, batch):
        return fp.optim.apply(sgd(0.1), state, {"w": batch}, {}, torch.tensor(0))[0], {}

    traced = fp.trace_step(step, {"w": torch.ones(2)}, torch.ones(2, dtype=torch.float64))
    with pytest.raises(PassError, match=r"are of \['torch.float32', 'torch.float64'\], and must be of one dtype"):
        fuse_updates(strict=True)(traced)


def test_clipping_is_written_out_in_front():
    optimizer = chain(clip_by_global_norm(0.5), adamw(0.1))
    step = fuse_updates(strict=True)(update_step(optimizer, PARAMS))
    names = [str(node.target) for node in step.graph.nodes]
    assert names.index("aten.clamp.default") < names.index("aten._fused_adamw.default")
