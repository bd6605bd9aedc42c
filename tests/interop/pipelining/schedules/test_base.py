"""What `step` and `eval` check, and what they hand on: to the engine, or in microbatches to who runs them instead."""

import pytest
import torch

import funpipe as fp
from funpipe import FunpipeError
from funpipe.interop.pipelining.errors import PipeliningMetadataError
from funpipe.interop.pipelining.schedules import PipelineScheduleSingle, ScheduleGPipe
from tests.interop.pipelining.schedules.made import NAMES, made, rows, stage

X, T = torch.arange(4.0).reshape(4, 1), torch.zeros(4, 1)


def loss(output, target):
    return (output - target).square().mean()


def alone(m=2, **options):
    """A schedule of one rank, which has the last stage."""
    return ScheduleGPipe(stage(1), m, **{"loss_fn": loss, **options})


def test_a_step_trains_and_hands_on_what_it_was_given(engines):
    losses = []
    found = alone().step(X, 2, target=T, losses=losses, loss_kwargs={"a": 1}, scale=3)
    (engine,) = engines
    ((call, training, given, outputs),) = engine.calls
    assert (call.args, call.kwargs, call.loss_kwargs) == ((X, 2), {"scale": 3}, {"a": 1}) and call.target is T
    assert training and given is losses and outputs and found == "outputs"


def test_outputs_are_returned_only_where_they_are_wanted(engines):
    assert alone().step(X, target=T, return_outputs=False) is None
    assert alone().eval(X, return_outputs=False) is None


def test_eval_does_not_train_and_needs_neither_a_target_nor_gradients(engines):
    """torch's eval raises TypeError where there is a loss_fn and no target."""
    schedule = alone()
    with torch.no_grad():
        schedule.eval(X)
    assert [training for _, training, _, _ in engines[0].calls] == [False]
    assert schedule._has_backward


def test_without_a_loss_a_step_does_not_train(engines):
    schedule = alone(loss_fn=None)
    with torch.no_grad():
        schedule.step(X)
    assert [training for _, training, _, _ in engines[0].calls] == [False]


@pytest.mark.parametrize("name", NAMES)
def test_a_step_without_gradients_is_refused(name, engines):
    schedule = made(name, 2, 4, loss_fn=loss)
    with (
        torch.no_grad(),
        pytest.raises(RuntimeError, match=r"step\(\) requires gradients to be enabled .* call eval\(\) instead") as e,
    ):
        schedule.step(X)
    assert isinstance(e.value, FunpipeError)


def test_unless_the_user_says_that_none_are_needed(engines):
    schedule = made("ScheduleInterleaved1F1B", 2, 4, loss_fn=loss, backward_requires_autograd=False)
    with torch.no_grad():
        assert schedule.step(X) == "outputs"


@pytest.mark.parametrize("name", ["arg_mbs", "kwarg_mbs", "target_mbs"])
def test_microbatches_are_lists_with_one_entry_for_each(name, engines):
    schedule = alone()
    target = {} if name == "target_mbs" else {"target": T}
    with pytest.raises(TypeError, match=f"{name} must be a list but got a <class 'tuple'>"):
        schedule.step(**{name: ((X,), (X,))}, **target)
    with pytest.raises(ValueError, match=f"Expecting 2 {name} but got 1"):
        schedule.step(**{name: [(X,)]}, **target)


def test_microbatches_are_handed_on(engines):
    schedule = alone()
    schedule.step(arg_mbs=[(X,), (X,)], kwarg_mbs=[{"a": 1}, {"a": 2}], target_mbs=[T, T])
    call = engines[0].calls[0][0]
    assert (len(call.arg_mbs), call.kwarg_mbs, len(call.target_mbs)) == (2, [{"a": 1}, {"a": 2}], 2)


def test_a_batch_and_its_microbatches_are_not_both_given(engines):
    with pytest.raises(ValueError, match="arg_mbs and the whole batch's arg were both passed"):
        alone().step(X, arg_mbs=[(X,), (X,)], target=T)
    with pytest.raises(ValueError, match="target_mbs and the whole batch's target were both passed"):
        alone().step(X, target=T, target_mbs=[T, T])


def test_losses_are_a_list(engines):
    with pytest.raises(TypeError, match="losses must be a list but got a <class 'tuple'>"):
        alone().step(X, target=T, losses=())


def test_the_last_stage_needs_a_target_to_train(engines):
    with pytest.raises(PipeliningMetadataError, match="Stage 0: loss_fn and target required for last stage"):
        alone().step(X)
    made("ScheduleGPipe", 2, 2, loss_fn=loss).step(X)


def test_errors_reach_the_engine_where_all_ranks_meet(engines):
    """Raised before it, they would leave the other ranks waiting."""
    with pytest.raises(TypeError):
        alone().step(X, target=T, losses=())
    assert isinstance(engines[0].calls[0][0].error, TypeError)


@pytest.mark.parametrize("count", [0, -1, 1.5, None])
def test_the_number_of_microbatches_is_at_least_one(count):
    with pytest.raises(ValueError, match=f"n_microbatches is {count}; pass an integer from 1 on"):
        alone(count)


def test_microbatches_may_be_given_straight(engines):
    """As frameworks do that never have a whole batch: the loss gets None for a target."""
    schedule = alone()
    schedule._step_microbatches(arg_mbs=[(X,), (X,)], kwarg_mbs=[{}, {}], target_mbs=[None, None], losses=[])
    call, training, losses, outputs = engines[0].calls[0]
    assert call.target_mbs == [None, None] and training and losses == [] and outputs
    with pytest.raises(ValueError, match="Expecting 2 arg_mbs but got 1"):
        schedule._step_microbatches(arg_mbs=[(X,)], target_mbs=[None, None])


class Own(PipelineScheduleSingle):
    """A user's schedule that runs microbatches by itself."""

    def _step_microbatches(
        self, arg_mbs=None, kwarg_mbs=None, target_mbs=None, losses=None, return_outputs=True, loss_kwargs=None
    ):
        arg_mbs, kwarg_mbs = self._check_inputs(arg_mbs, kwarg_mbs, target_mbs, losses)
        outputs = []
        for i, (args, kwargs) in enumerate(zip(arg_mbs, kwarg_mbs, strict=True)):
            outputs.append(self._stage.submod(*args, **kwargs))
            self._maybe_compute_loss(self._stage, outputs[-1], target_mbs, i)
        self._update_losses(self._stage, losses)
        return self._merge_outputs(outputs) if return_outputs else None


def test_a_users_own_loop_gets_microbatches(engines):
    submod, losses = torch.nn.Identity(), ["old"]
    schedule = Own(stage(1, submod=submod), 2, loss_fn=loss)
    torch.testing.assert_close(schedule.step(X, target=T, losses=losses), X)
    assert [round(one.item(), 3) for one in losses] == [0.5, 6.5] and engines == []


def test_a_users_own_loop_gets_the_errors_too():
    with pytest.raises(TypeError, match="losses must be a list"):
        Own(stage(1), 2, loss_fn=loss).step(X, target=T, losses=())


def test_a_schedule_without_rows_and_without_a_loop_says_so():
    with pytest.raises(NotImplementedError, match="PipelineScheduleSingle has no pipeline_order"):
        PipelineScheduleSingle(stage(1), 2).step(X)


def test_the_options_reach_the_engine(engines):
    schedule = alone(backend="regions", scale_grads=False, pass_stage_and_microbatch_indices=True)
    schedule.step(X, target=T)
    options = engines[0].options
    assert (options.backend, options.scale_grads, options.with_indices) == ("regions", False, True)
    assert (options.num_microbatches, options.loss_fn, options.optimizer) == (2, loss, None)


@pytest.mark.parametrize("name", NAMES)
def test_every_schedule_runs_its_own_table(name, engines):
    schedule = made(name, 2, 4)
    schedule.step(X)
    (engine,) = engines
    assert (engine.table.num_ranks, engine.table.num_microbatches) == (2, 4)
    assert engine.stages == schedule._local_stages
    assert {s: engine.table.placement[s] for s in range(engine.table.num_stages)} == schedule._stage_to_rank()


def test_one_engine_serves_all_steps(engines):
    schedule = alone()
    for _ in range(3):
        schedule.step(X, target=T)
        schedule.eval(X)
    assert len(engines) == 1


def test_a_changed_schedule_gets_another_engine(engines):
    schedule = alone()
    schedule.step(X, target=T)
    schedule.pipeline_order[0][1:3] = rows("0B0 0F1")[0]
    schedule.step(X, target=T)
    schedule.scale_grads = False
    schedule.step(X, target=T)
    orders = [" ".join(map(str, engine.table.order(0))) for engine in engines]
    assert orders == ["0F0 0F1 0B0 0B1", "0F0 0B0 0F1 0B1", "0F0 0B0 0F1 0B1"]


def test_rows_for_another_number_of_microbatches_are_refused():
    schedule = alone()
    schedule.pipeline_order = rows("0F0 0B0")
    with pytest.raises(AssertionError, match="The schedule has 2 microbatches, its order 1"):
        schedule.step(X, target=T)


def test_stages_are_told_whether_a_backward_follows(engines):
    schedule = alone()
    assert schedule._stage.has_backward
    schedule.eval(X)
    assert not schedule._stage.has_backward


def test_an_optimizer_is_never_left_out_nor_forgotten(engines):
    optimizer = fp.optim.sgd(0.1)
    with pytest.raises(RuntimeError, match="has an optimizer, and runs microbatches by functions of the user's"):
        Own(stage(1), 2, loss_fn=loss, optimizer=optimizer).step(X, target=T)
    schedule = alone(optimizer=optimizer)
    schedule.step(X, target=T)
    assert engines[0].options.optimizer is optimizer
    schedule.scale_grads = False
    with pytest.raises(
        RuntimeError, match="was changed after a step, and the optimizer's state is that of the old one"
    ):
        schedule.step(X, target=T)
