"""Batches of several sizes: one compiled step for each, so many are kept, and a word where they grow."""

import warnings

import pytest
import torch

import funpipe as fp
from funpipe._errors import FunpipeError, FunpipeWarning

PARAMS = {"w": torch.ones(3, 2)}


def loss_fn(params, batch):
    return (batch["x"] @ params["w"]).square().mean()


def made(**options):
    step = fp.train_step(loss_fn, fp.optim.sgd(0.0), backend="interpret", **options)
    return step, step.init(PARAMS, rows(1))


def rows(n):
    return {"x": torch.full((n, 3), float(n))}


def run(step, state, sizes):
    losses = []
    for n in sizes:
        state, metrics = step(state, rows(n))
        losses.append(float(metrics["loss"]))
    return losses


def test_three_sizes_go_without_a_word():
    step, state = made()
    assert run(step, state, [1, 2, 3, 1, 2, 3]) == [9, 36, 81, 9, 36, 81]
    assert step._engine.compilations == 3


def test_the_fourth_compilation_says_what_changes_and_what_to_do():
    step, state = made()
    with pytest.warns(FunpipeWarning, match=r"4 times.*leaf .x. is float32\[4,3\], not float32\[1,3\].*fp\.microbatch"):
        run(step, state, [1, 2, 3, 4])


def test_it_says_so_at_powers_of_two_alone():
    step, state = made()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        run(step, state, range(1, 20))
    assert [str(w.message).split()[4] for w in said] == ["4", "8", "16"]
    assert "Only the 8 that ran last are kept" in str(said[1].message)


def test_only_so_many_are_kept_and_those_that_ran_last():
    step, state = made(max_shapes=2)
    losses = run(step, state, [1, 2, 1, 3, 1])
    assert losses == [9, 36, 9, 81, 9] and step._engine.compilations == 3
    with pytest.warns(FunpipeWarning, match="Only the 2 that ran last are kept"):
        assert run(step, step.init(PARAMS, rows(1)), [1, 2, 3, 2, 1]) == [9, 36, 81, 36, 9]
    assert step._engine.compilations == 4 and len(step._engine.compiled) == 2


def test_the_kinds_of_batches_that_are_known_are_bounded():
    step, state = made()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FunpipeWarning)
        run(step, state, range(1, 300))
    assert len(step._engine.known) <= 256


@pytest.mark.parametrize("limit", [0, -1, True, 2.0, None])
def test_a_limit_that_keeps_none_is_an_error(limit):
    with pytest.raises(FunpipeError, match="max_shapes is .*; pass an int of at least 1"):
        fp.train_step(loss_fn, fp.optim.sgd(0.1), max_shapes=limit)
