import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from funpipe._errors import FunpipeError
from funpipe.optim import accumulate, adamw, apply, chain, clip_by_global_norm, groups, lion, muon, sgd, warmup_cosine
from tests.optim.references import draw

SHAPES = {"w": (3, 2), "b": (4,)}
OPTIMIZERS = {
    "schedule": adamw(warmup_cosine(0.1, 2, 9)),
    "clipped": chain(clip_by_global_norm(0.5), adamw(0.1)),
    "groups": groups(
        {"a": chain(clip_by_global_norm(0.5), lion(0.1)), "b": sgd(0.1)}, lambda name, leaf: "a" if name == "w" else "b"
    ),
    "muon": muon(0.1, rest=sgd(0.1, momentum=0.9)),
}


def run(optimizer, gradients):
    params = draw(0, SHAPES)
    state, history = optimizer.init(params), []
    for step, grads in enumerate(gradients):
        params, state = apply(optimizer, params, grads, state, torch.tensor(step))
        history.append(params)
    return history, state


@pytest.mark.parametrize("name", OPTIMIZERS)
@given(steps=st.integers(1, 4), updates=st.integers(1, 3), left=st.integers(0, 3))
@settings(max_examples=10, deadline=None)
def test_equals_updates_with_the_means(name, steps, updates, left):
    """Also the slots, and whatever steps came behind the last update."""
    optimizer, left = OPTIMIZERS[name], min(left, steps - 1)
    gradients = [draw(i + 1, SHAPES) for i in range(steps * updates + left)]
    parts = [gradients[i * steps : (i + 1) * steps] for i in range(updates)]
    means = [{n: torch.stack([g[n] for g in part]).mean(0) for n in SHAPES} for part in parts]
    expected, slots = run(optimizer, means)
    found, state = run(accumulate(optimizer, steps), gradients)
    del state["accumulated"]
    for leaf in SHAPES:
        torch.testing.assert_close(found[-1][leaf], expected[-1][leaf], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(state, slots, rtol=1e-10, atol=1e-10)


def test_parameters_stay_between_updates():
    history, state = run(accumulate(sgd(0.1), 3), [draw(i + 1, SHAPES) for i in range(4)])
    assert torch.equal(history[0]["w"], draw(0, SHAPES)["w"])
    assert torch.equal(history[1]["w"], history[0]["w"])
    assert not torch.equal(history[2]["w"], history[1]["w"])
    assert torch.equal(state["accumulated"]["w"], draw(4, SHAPES)["w"])


def test_a_norm_from_outside_is_refused():
    optimizer, leaves = accumulate(OPTIMIZERS["clipped"], 2), draw(0, SHAPES)
    with pytest.raises(FunpipeError, match=r"norm is given, and accumulate.*leave norm out"):
        apply(optimizer, leaves, leaves, optimizer.init(leaves), torch.tensor(0), norm=torch.tensor(1.0))


def test_accumulating_twice_is_refused():
    with pytest.raises(FunpipeError, match=r"accumulates already; pass the product"):
        accumulate(accumulate(sgd(0.1), 2), 2).init(draw(0, SHAPES))


def test_no_steps_are_refused():
    with pytest.raises(FunpipeError, match=r"accumulate: steps is 0; pass at least 1"):
        accumulate(sgd(0.1), 0)


def test_a_group_may_accumulate_by_itself():
    """The norm is that of its means, and of the other group's gradients."""
    clipped = chain(clip_by_global_norm(0.5), sgd(0.1))
    one = groups({"a": accumulate(clipped, 2), "b": sgd(0.0)}, lambda name, leaf: "a" if name == "w" else "b")
    gradients = [draw(i + 1, SHAPES) for i in range(2)]
    found, _ = run(one, gradients)
    mean = {"w": (gradients[0]["w"] + gradients[1]["w"]) / 2, "b": gradients[1]["b"]}
    expected, _ = run(groups({"a": clipped, "b": sgd(0.0)}, lambda name, leaf: "a" if name == "w" else "b"), [mean])
    torch.testing.assert_close(found[-1], expected[-1], rtol=1e-12, atol=1e-12)
