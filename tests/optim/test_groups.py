import pytest
import torch

import funpipe as fp
from funpipe._errors import FunpipeError, FunpipeTypeError, StateError
from funpipe.optim import adam, adamw, apply, chain, clip_by_global_norm, groups, sgd

SHAPES = {"a.bias": (3,), "a.weight": (3, 2), "b.bias": (), "b.weight": (2, 2)}


def by_layer(name, leaf):
    return name[0]


def by_kind(name, leaf):
    return "bias" if name.endswith("bias") else "weight"


TWO = groups({"a": adamw(0.01, weight_decay=0.1), "b": sgd(0.1, momentum=0.9)}, by_layer)


def leaves(seed, dtype=torch.float32):
    random = torch.Generator().manual_seed(seed)
    return {n: torch.randn(shape, generator=random, dtype=torch.float64).to(dtype) for n, shape in SHAPES.items()}


def trained(optimizer, steps=3, **given):
    params, state = leaves(0), optimizer.init(leaves(0))
    for step in range(steps):
        params, state = apply(optimizer, params, leaves(step + 1), state, torch.tensor(step), **given)
    return params, state


def by_torch(groups_of, steps=3):
    params = {n: torch.nn.Parameter(p) for n, p in leaves(0).items()}
    optimizers = groups_of(params)
    for step in range(steps):
        for name, grad in leaves(step + 1).items():
            params[name].grad = grad
        for optimizer in optimizers:
            optimizer.step()
    return {n: p.detach() for n, p in params.items()}


def test_each_group_is_updated_by_its_own_optimizer():
    found, _ = trained(TWO)
    expected = by_torch(
        lambda p: [
            torch.optim.AdamW([p["a.bias"], p["a.weight"]], lr=0.01, weight_decay=0.1),
            torch.optim.SGD([p["b.bias"], p["b.weight"]], lr=0.1, momentum=0.9),
        ]
    )
    for name, leaf in expected.items():
        torch.testing.assert_close(found[name], leaf, rtol=1e-6, atol=1e-6)


def test_groups_with_other_rates_and_decays_equal_parameter_groups():
    optimizer = groups({"bias": adamw(0.02, weight_decay=0.0), "weight": adamw(0.01, weight_decay=0.3)}, by_kind)
    expected = by_torch(
        lambda p: [
            torch.optim.AdamW(
                [
                    {"params": [p["a.bias"], p["b.bias"]], "lr": 0.02, "weight_decay": 0.0},
                    {"params": [p["a.weight"], p["b.weight"]], "lr": 0.01, "weight_decay": 0.3},
                ]
            )
        ]
    )
    found, _ = trained(optimizer)
    for name, leaf in expected.items():
        torch.testing.assert_close(found[name], leaf, rtol=1e-6, atol=1e-6)


def test_a_slot_holds_the_leaves_that_it_is_kept_for():
    state = TWO.init(leaves(0))
    assert {slot: sorted(entries) for slot, entries in state.items()} == {
        "m": ["a.bias", "a.weight"],
        "v": ["a.bias", "a.weight"],
        "momentum": ["b.bias", "b.weight"],
    }
    _, new = trained(TWO)
    assert {slot: sorted(entries) for slot, entries in new.items()} == {n: sorted(s) for n, s in state.items()}


def test_the_norm_is_that_of_all_groups():
    clipped = groups({"a": chain(clip_by_global_norm(0.5), sgd(1.0)), "b": sgd(1.0)}, by_layer)
    grads = leaves(1)
    norm = torch.cat([g.reshape(-1) for g in grads.values()]).norm()
    new, _ = apply(clipped, leaves(0), grads, clipped.init(leaves(0)), torch.tensor(0))
    torch.testing.assert_close(new["a.bias"], leaves(0)["a.bias"] - grads["a.bias"] * 0.5 / (norm + 1e-6))
    torch.testing.assert_close(new["b.bias"], leaves(0)["b.bias"] - grads["b.bias"])


def test_groups_in_groups_and_in_a_chain():
    masked = adamw(0.01, weight_decay=0.5, decay_mask=lambda name, leaf: leaf.dim() > 1)
    inner = groups({"bias": sgd(0.1), "weight": masked}, by_kind)
    optimizer = chain(clip_by_global_norm(100.0), groups({"a": inner, "b": adam(0.1)}, by_layer))
    plain, _ = trained(groups({"bias": sgd(0.1), "weight": masked}, by_kind))
    found, state = trained(optimizer)
    assert torch.equal(found["a.weight"], plain["a.weight"]) and torch.equal(found["a.bias"], plain["a.bias"])
    assert sorted(state["1"]["m"]) == ["a.weight", "b.bias", "b.weight"]


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("backend", ["interpret", pytest.param("step", marks=pytest.mark.full)])
def test_train_step_makes_buckets_of_groups(backend, clip):
    parts = {"bias": sgd(0.1, momentum=0.9), "weight": adamw(0.01, weight_decay=0.1)}
    optimizer = groups(parts, by_kind)
    optimizer = chain(clip_by_global_norm(0.01), optimizer) if clip else optimizer

    def loss(p, x):
        h = fp.mark_stage_end(torch.tanh(x @ p["a.weight"] + p["a.bias"]))
        return (h @ p["b.weight"] + p["b.bias"]).square().mean()

    params = {
        "a.bias": torch.zeros(3),
        "a.weight": torch.ones(2, 3),
        "b.bias": torch.zeros(()),
        "b.weight": torch.ones(3, 1),
    }
    batch, state = torch.randn(4, 2), optimizer.init(params)
    step = fp.train_step(loss, optimizer, num_microbatches=1, backend=backend)
    kept = step.init(params, batch)
    for i in range(3):
        kept, _ = step(kept, batch)
        params, state = apply(optimizer, params, torch.func.grad(loss)(params, batch), state, torch.tensor(i))
    found, _ = step.gather(kept)
    for name, leaf in params.items():
        torch.testing.assert_close(found[name], leaf, rtol=1e-6, atol=1e-7)
    assert sorted(step.state_dict(kept)["optimizer"]) == (
        ["1.m", "1.momentum", "1.v"] if clip else ["m", "momentum", "v"]
    )


def test_a_label_that_is_no_group():
    optimizer = groups({"a": sgd(0.1)}, by_layer)
    with pytest.raises(FunpipeError, match=r"label of leaf 'b.bias' is 'b', and the groups are \['a'\]; return one of"):
        optimizer.init(leaves(0))


def test_no_groups_and_no_optimizer():
    with pytest.raises(FunpipeError, match=r"groups\(\{\}\) has no groups; name them"):
        groups({}, by_layer)
    with pytest.raises(FunpipeTypeError, match=r"group 'a' is 0.1, a float; pass an optimizer"):
        groups({"a": 0.1}, by_layer)  # type: ignore[dict-item]


def test_the_state_of_another_optimizer():
    state = {"m": TWO.init(leaves(0))["m"]}
    with pytest.raises(StateError, match=r"state has no 'v', only \['m'\]; pass the state"):
        apply(TWO, leaves(0), leaves(1), state, torch.tensor(0))


def test_how_it_prints():
    assert str(groups({"a": sgd(0.1), "b": sgd(1.0)}, by_layer)) == "groups(a=sgd(lr=0.1), b=sgd(lr=1.0))"
