"""A pipelined step trains as plain torch does, whatever the cut and the schedule, all ranks in this process."""

import pytest
import torch

import funpipe as fp
from tests.api.models import (
    batch_of,
    batches,
    eager,
    largest_error,
    largest_loss_error,
    loss_fn,
    params_of,
    same_bits,
    step_of,
    trained,
)

MOMENTUM = (fp.optim.sgd(0.1, momentum=0.9), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9))
ADAMW = (fp.optim.adamw(1e-2), lambda p: torch.optim.AdamW(p, 1e-2, weight_decay=0.01))


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
def test_twenty_steps_of_sgd_are_those_of_torch(schedule):
    ours, torchs = MOMENTUM
    step = step_of(optimizer=ours, schedule=schedule)
    state, losses = trained(step, params_of(), batches(20))
    wanted, wanted_losses = eager(loss_fn, params_of(), batches(20), torchs)
    assert largest_loss_error(losses, wanted_losses) < 1e-5
    assert largest_error(step.gather(state)[0], wanted) < 1e-5
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
def test_twenty_steps_of_adamw_are_those_of_torch(schedule):
    ours, torchs = ADAMW
    _, losses = trained(step_of(optimizer=ours, schedule=schedule), params_of(), batches(20))
    _, wanted = eager(loss_fn, params_of(), batches(20), torchs)
    assert largest_loss_error(losses, wanted) < 1e-5


def test_parameters_under_adamw_are_those_of_torch_in_float64():
    ours, torchs = ADAMW
    double = torch.float64
    step = step_of(optimizer=ours)
    state, losses = trained(step, params_of(dtype=double), batches(20, dtype=double))
    wanted, wanted_losses = eager(loss_fn, params_of(dtype=double), batches(20, dtype=double), torchs)
    assert largest_error(step.gather(state)[0], wanted) < 1e-9
    assert largest_loss_error(losses, wanted_losses) < 1e-12


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
def test_every_cut_and_schedule_gives_the_same_bits(stages, schedule):
    wanted, _ = trained(step_of(stages=1, schedule="gpipe"), params_of(), batches(3))
    step = step_of(stages=stages, schedule=schedule)
    state, _ = trained(step, params_of(), batches(3))
    whole = step_of(stages=1, schedule="gpipe")
    whole.init(params_of(), batch_of())
    assert len(step.lowered.stages) == stages
    assert same_bits(step.gather(state)[0], whole.gather(wanted)[0])


def test_the_number_of_microbatches_changes_no_more_than_rounding():
    losses = [trained(step_of(num_microbatches=n), params_of(), batches(5))[1] for n in (1, 2, 8)]
    assert largest_loss_error(losses[1], losses[0]) < 1e-5
    assert largest_loss_error(losses[2], losses[0]) < 1e-5


def test_clipping_is_that_of_torch():
    def clipped(parameters):
        optimizer = torch.optim.SGD(parameters, 0.5)
        optimizer.register_step_pre_hook(lambda *_: torch.nn.utils.clip_grad_norm_(parameters, 0.05) and None)
        return optimizer

    optimizer = fp.optim.chain(fp.optim.clip_by_global_norm(0.05), fp.optim.sgd(0.5))
    step = step_of(optimizer=optimizer, stages=3)
    state, losses = trained(step, params_of(), batches(10))
    wanted, wanted_losses = eager(loss_fn, params_of(), batches(10), clipped)
    assert largest_loss_error(losses, wanted_losses) < 1e-5
    assert largest_error(step.gather(state)[0], wanted) < 1e-5


def test_a_learning_rate_schedule_follows_the_steps_of_the_state():
    rate = fp.optim.linear(0.1, 0.0, steps=4)
    step = step_of(optimizer=fp.optim.sgd(rate))
    state, _ = trained(step, params_of(), batches(4))
    before = step.gather(state)[0]
    state, _ = step(state, batch_of())
    assert same_bits(step.gather(state)[0], before)
    assert state.step == 5


def test_a_schedule_may_be_a_table():
    step = step_of(schedule=fp.schedules.GPipe().table(2, 4))
    state, _ = trained(step, params_of(), batches(3))
    named = step_of(schedule="gpipe")
    wanted, _ = trained(named, params_of(), batches(3))
    assert same_bits(step.gather(state)[0], named.gather(wanted)[0])


def test_without_marks_or_a_number_there_is_one_stage():
    step = step_of(lambda params, batch: (batch["x"] @ params["w"] - batch["y"]).square().mean())
    step.init({"w": torch.ones(5, 2)}, batch_of())
    assert len(step.lowered.stages) == 1


def test_init_reads_shapes_alone_of_a_batch():
    step, shapes = step_of(), {n: t.to("meta") for n, t in batch_of().items()}
    state, _ = step(step.init(params_of(), shapes), batch_of())
    other = step_of()
    assert same_bits(step.gather(state)[0], other.gather(trained(other, params_of(), batches(1))[0])[0])


def test_the_printed_forms_say_what_it_is():
    step = step_of()
    state, metrics = step(step.init(params_of(), batch_of()), batch_of())
    assert repr(metrics) == "Metrics(loss)"
    assert repr(state).startswith("State(ready, ")
