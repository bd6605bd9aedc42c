import pytest
import torch

from funpipe._errors import FunpipeError
from funpipe.optim import adam, apply, ema, groups, sgd, warmup_cosine
from tests.optim.references import draw

SHAPES = {"w": (3, 2), "b": (4,)}


def run(optimizer, steps=5, **options):
    params = draw(0, SHAPES)
    state, history = optimizer.init(params), [params]
    for step in range(steps):
        params, state = apply(optimizer, params, draw(step + 1, SHAPES), state, torch.tensor(step), **options)
        history.append(params)
    return history, state


def test_the_update_is_the_optimizers_own():
    plain, _ = run(adam(warmup_cosine(0.1, 2, 9)))
    found, _ = run(ema(adam(warmup_cosine(0.1, 2, 9))))
    assert all(torch.equal(found[-1][name], leaf) for name, leaf in plain[-1].items())


def test_it_starts_from_the_first_parameters():
    history, state = run(ema(sgd(0.1), decay=0.8))
    average = history[0]["w"]
    for params in history[1:]:
        average = 0.8 * average + 0.2 * params["w"]
    torch.testing.assert_close(state["ema"]["w"], average, rtol=1e-12, atol=1e-12)


def test_debiased_it_is_the_corrected_average_from_zero():
    history, state = run(ema(sgd(0.1), decay=0.8, debias=True))
    average = torch.zeros(3, 2, dtype=torch.float64)
    for params in history[1:]:
        average = 0.8 * average + 0.2 * params["w"]
    expected = average / (1 - 0.8 ** (len(history) - 1))
    torch.testing.assert_close(state["ema"]["w"], expected, rtol=1e-12, atol=1e-12)


def test_groups_are_averaged_together():
    parts = {"a": sgd(0.1), "b": adam(0.1)}
    optimizer = ema(groups(parts, lambda name, leaf: "a" if name == "w" else "b"), decay=0.5)
    history, state = run(optimizer, steps=1)
    assert sorted(state) == ["ema", "m", "v"]
    for name in SHAPES:
        expected = 0.5 * (history[0][name] + history[1][name])
        torch.testing.assert_close(state["ema"][name], expected, rtol=1e-12, atol=1e-12)


def test_a_learning_rate_may_come_from_outside():
    history, _ = run(ema(sgd(0.1)), steps=1, lr=torch.tensor(0.0))
    assert torch.equal(history[0]["w"], history[1]["w"])


def test_averaging_twice_is_refused():
    with pytest.raises(FunpipeError, match=r"has a slot 'ema' already"):
        ema(ema(sgd(0.1))).init(draw(0, SHAPES))


def test_a_decay_of_one_is_refused():
    with pytest.raises(FunpipeError, match=r"ema: decay is 1\.0, and must be in \[0, 1\)"):
        ema(sgd(0.1), decay=1.0)
