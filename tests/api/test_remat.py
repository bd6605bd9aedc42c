"""The argument `remat`: less memory, the same numbers."""

import pytest
import torch

import funpipe as fp
from tests.api.models import batch_of, batches, loss_fn, params_of, same_bits, step_of, trained

LARGE = 512
"""Rows: enough for the values of a microbatch to outweigh the parameters."""


def peak(remat):
    step = step_of(schedule="gpipe", remat=remat)
    step.init(params_of(), batch_of(LARGE))
    return step.lowered.memory_analysis()[0]


@pytest.mark.parametrize("remat", ["full", 10**9, [96, "full"], [fp.stages.Budget(0), "none"]])
def test_losses_and_parameters_are_the_same_bits(remat):
    plain, step = step_of(), step_of(remat=remat)
    (wanted, wanted_losses), (found, losses) = (trained(s, params_of(), batches(4)) for s in (plain, step))
    assert same_bits(losses, wanted_losses)
    assert same_bits(step.gather(found), plain.gather(wanted))


def test_the_gradients_of_value_and_grad_are_the_same_bits():
    found, wanted = (
        fp.value_and_grad(loss_fn, num_microbatches=4, backend="interpret", remat=remat)(params_of(), batch_of())
        for remat in ("full", "none")
    )
    assert same_bits(found, wanted)


def test_less_is_held_at_the_peak():
    two_of_three = LARGE // 4 * 2 * 6 * 4  # of a microbatch: what the second stage gets, and its first layer's result
    full, some, none = peak("full"), peak(["full", two_of_three]), peak("none")
    assert full < some < none
    assert none - full >= LARGE * (6 + 2) * 4, "GPipe holds the values of all microbatches at once"


def test_the_stages_show_what_is_computed_again():
    step = step_of(remat=["full", "none"])
    step.init(params_of(), batch_of())
    first, second = (stage.as_text() for stage in step.lowered.stages)
    assert "mm_recomputed = aten.mm.default" in first
    assert "recomputed" not in second


def test_a_state_goes_from_one_choice_to_another():
    plain, step = step_of(), step_of(remat="full")
    state, _ = trained(plain, params_of(), batches(2))
    moved = step.load(step.init(params_of(), batch_of()), plain.state_dict(state))
    for batch in batches(2):
        (state, wanted), (moved, found) = plain(state, batch), step(moved, batch)
        assert torch.equal(found["loss"], wanted["loss"])


def test_an_evaluation_beside_it():
    plain, step = step_of(), step_of(remat=["full", "none"])
    found, wanted = (
        fp.eval_step(loss_fn, like=s)(trained(s, params_of(), batches(1))[0], batch_of(seed=7)) for s in (step, plain)
    )
    assert torch.equal(found["loss"], wanted["loss"])


@pytest.mark.parametrize("remat", ["half", None, ["none", "some"]])
def test_a_word_that_means_nothing_is_refused_at_once(remat):
    with pytest.raises(fp.FunpipeError, match="use 'none', 'full', fp.stages.Budget"):
        step_of(remat=remat)


def test_another_number_of_stages_is_refused_when_there_are_stages():
    with pytest.raises(fp.FunpipeError, match="remat has 3 entries, but the model is cut into 2 stages"):
        step_of(remat=["none"] * 3).init(params_of(), batch_of())


def test_a_budget_that_cannot_be_kept_names_the_smallest():
    with pytest.raises(fp.FunpipeError, match="stage 1 may save 7 bytes .* give it a budget of at least 48"):
        step_of(remat=["none", 7]).init(params_of(), batch_of())
