"""Schedules with the engine and with the walk, in one process: gradients against those of the whole model."""

import pytest
import torch
from torch.nn.functional import mse_loss

from funpipe.interop.pipelining import schedules
from funpipe.interop.pipelining.schedules import (
    OVERLAP_F_B,
    F,
    PipelineScheduleMulti,
    PipelineScheduleSingle,
    ScheduleDualPipeV,
    _PipelineScheduleRuntime,
)
from funpipe.interop.pipelining.stage import PipelineStage, _PipelineStageBase
from tests.interop.pipelining.schedules.made import LOOPS, NAMES, SINGLES, rows


class Run:
    """A model of two layers, its batch, and what it gives whole."""

    def __init__(self):
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh())
        self.x, self.target = torch.randn(4, 3), torch.randn(4, 3)
        self.loss = mse_loss(self.model(self.x), self.target)
        self.grads = torch.autograd.grad(self.loss, list(self.model.parameters()))

    def stages(self, count):
        modules = [self.model] if count == 1 else list(self.model)
        return [PipelineStage(module, i, count, torch.device("cpu")) for i, module in enumerate(modules)]

    def check(self, schedule):
        losses = []
        outputs = schedule.step(self.x, target=self.target, losses=losses)
        torch.testing.assert_close(outputs, self.model(self.x))
        torch.testing.assert_close(torch.stack(losses).mean(), self.loss.detach())
        torch.testing.assert_close([p.grad for p in self.model.parameters()], list(self.grads))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_the_whole_model(name):
    run = Run()
    given = run.stages(1)[0] if name in SINGLES else run.stages(2)
    run.check(getattr(schedules, name)(given, 2, loss_fn=mse_loss, backend="interpret"))


@pytest.mark.parametrize(
    "line", ["0F0 1F0 1I0 0F1 0I0 1W0 1F1 1B1 0W0 0B1", "0F0 1F0 (0F1;1B0)OVERLAP_F_B 0B0 1F1 1B1 0B1"]
)
def test_a_users_rows_are_run(line):
    run = Run()
    schedule = PipelineScheduleMulti(run.stages(2), 2, loss_fn=mse_loss, backend="interpret")
    schedule.pipeline_order = rows(line)
    schedule._validate_and_set_stage_mapping(schedule.pipeline_order)
    run.check(schedule)


def overlapped(action, ctx):
    """Runs the parts of an overlap, as a user's function does that hides one behind the other."""
    schedule = ctx.schedule_ref
    stages = {stage.stage_index: stage for stage in schedule._stages}
    for part in action.sub_actions:
        i, stage = part.microbatch_index, stages[part.stage_index]
        if part.computation_type is F:
            output = stage.forward_one_chunk(i, ctx.arg_mbs[i], ctx.kwarg_mbs[i])
            schedule._maybe_compute_loss(stage, output, ctx.target_mbs, i)
            if not stage.is_last:
                stages[part.stage_index + 1].set_local_fwd_input(output, i)
        else:
            stage.backward_one_chunk(i, loss=schedule._maybe_get_loss(stage, i))
            if not stage.is_first:
                stages[part.stage_index - 1].set_local_bwd_input(stage.get_local_bwd_output(i), i)


def test_a_users_function_runs_overlaps():
    run, seen = Run(), []
    schedule = ScheduleDualPipeV(run.stages(2), 2, loss_fn=mse_loss)

    def function(action, ctx):
        seen.append(str(action))
        overlapped(action, ctx)

    schedule.register_custom_function(OVERLAP_F_B, function)
    run.check(schedule)
    assert seen == [str(action) for action in schedule.pipeline_order[0] if action and action.sub_actions]


def test_a_users_rows_with_communication_are_walked_with_a_function():
    run = Run()
    schedule = _PipelineScheduleRuntime(run.stages(2), 2, loss_fn=mse_loss)
    schedule._prepare_schedule_with_comms(rows("0F0 1F0 (0F1;1B0)OVERLAP_F_B 0B0 1F1 1B1 0B1"))
    schedule.register_custom_function(OVERLAP_F_B, overlapped)
    run.check(schedule)


class Own(PipelineScheduleSingle):
    """A user's loop over the methods of a stage."""

    def _step_microbatches(
        self, arg_mbs=None, kwarg_mbs=None, target_mbs=None, losses=None, return_outputs=True, loss_kwargs=None
    ):
        arg_mbs, kwarg_mbs = self._check_inputs(arg_mbs, kwarg_mbs, target_mbs, losses)
        for i in range(self._n_microbatches):
            output = self._stage.forward_one_chunk(i, arg_mbs[i], kwarg_mbs[i])
            self._maybe_compute_loss(self._stage, output, target_mbs, i, loss_kwargs)
            last = i == self._n_microbatches - 1
            self._stage.backward_one_chunk(i, loss=self._maybe_get_loss(self._stage, i), last_backward=last)
        self._stage.scale_grads(self._n_microbatches)
        self._update_losses(self._stage, losses)
        return self._merge_outputs(self._stage.output_chunks)


def test_a_users_loop_over_the_methods_of_a_stage():
    run = Run()
    schedule = Own(run.stages(1)[0], 2, loss_fn=mse_loss)
    run.check(schedule)
    run.model.zero_grad()
    run.check(schedule)


class Bare(_PipelineStageBase):
    """A user's stage that sets only what a schedule's constructor reads."""

    def __init__(self, num_stages, num_ranks):
        self.submod, self.num_stages, self.group_size = None, num_stages, num_ranks
        self.group_rank, self.group = 0, None


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_that_sets_five_attributes_is_enough_to_make_a_schedule(name):
    cls = getattr(schedules, name)
    found = cls(Bare(2, 2), 4) if name in SINGLES else cls([Bare(4, 2), Bare(4, 2)], 4)
    assert found.pipeline_order.keys() == {0, 1}
    if name not in SINGLES:
        assert (found._stages[0].stage_index_to_group_rank == {0: 0, 1: 1, 2: 0, 3: 1}) == (name in LOOPS)
