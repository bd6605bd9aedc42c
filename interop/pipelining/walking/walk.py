"""The walk of a rank's row of actions, with communication."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from funpipe.interop.pipelining.errors import PipeNotImplementedError
from funpipe.interop.pipelining.schedules import _Action, _ComputationType, _PipelineContext
from funpipe.interop.pipelining.stage.outputs import detached
from funpipe.interop.pipelining.stage.scaling import divide, forget, put_back, set_aside
from funpipe.interop.pipelining.walking.computing import Computing
from funpipe.interop.pipelining.walking.neighbours import Neighbours
from funpipe.interop.pipelining.walking.post import Post
from funpipe.interop.pipelining.walking.replicas import sum_replicas
from funpipe.interop.pipelining.walking.together import has_cpu, together
from funpipe.interop.pipelining.walking.walker import Walker


@dataclass(frozen=True)
class Walked:
    """What a step gives on the rank of the last stage; None on the others.

    Args:
        outputs: of each microbatch.
        losses: of each microbatch; None if there were none to compute.
    """

    outputs: list[Any] | None
    losses: list[torch.Tensor] | None


def walk(
    schedule: Any,
    arg_mbs: list[tuple[Any, ...]],
    kwarg_mbs: list[dict[str, Any]],
    target_mbs: list[Any] | None,
    loss_kwargs: Mapping[str, Any] | None = None,
) -> Walked:
    """Runs one step of a schedule action by action, its custom functions in the place of what they stand for.

    Gradients are added to `.grad`; with `scale_grads` what this step adds is divided by the number of microbatches,
    what was there before is not. An error on one rank is raised on all, and `.grad` is left as it was: messages say
    that they will not come, each rank takes out what is still on its way to it, and all meet at the end. Messages go
    over the group's CPU backend (gloo).

    Args:
        schedule: a schedule whose `pipeline_order_with_comms` has this rank's row.
        arg_mbs: positional arguments of each microbatch.
        kwarg_mbs: keywords of each microbatch.
        target_mbs: target of each microbatch; None: no losses.
        loss_kwargs: keywords of the loss function.

    Returns:
        Outputs and losses of the last stage, cut off from what made them.

    Raises:
        PipeRuntimeError: a stage or another rank failed.
        PipeNotImplementedError: the group has no CPU backend.

    Example:
        >>> from funpipe.interop.pipelining import PipelineStage
        >>> from funpipe.interop.pipelining.schedules import _PipelineScheduleRuntime
        >>> stage = PipelineStage(torch.nn.Linear(2, 2), 0, 1, torch.device("cpu"))
        >>> schedule = _PipelineScheduleRuntime([stage], 2, loss_fn=torch.nn.functional.mse_loss)
        >>> row = [_Action.from_str(text) for text in ("0F0", "0F1", "0B0", "0B1")]
        >>> schedule._prepare_schedule_with_comms({0: row})
        >>> x = torch.ones(3, 2)
        >>> walked = walk(schedule, [(x,), (x,)], [{}, {}], [x, x])
        >>> len(walked.losses), stage.submod.weight.grad.shape
        (2, torch.Size([2, 2]))
    """
    group = schedule._stages[0].group
    weights = list({id(p): p for stage in schedule._stages for p in stage.submod.parameters()}.values())
    before = set_aside(weights)
    try:
        # Each rank goes on when all have come as far: nobody waits for a message of one that failed before it.
        with together(group):
            context = _PipelineContext(schedule, arg_mbs, kwarg_mbs, target_mbs, schedule._internal_losses)
            walker, row = _ready(schedule, context, loss_kwargs)
        with together(group):
            _run(walker, row)
            walked = _walked(schedule)
        with together(group):
            _finish(walker, weights)
    except BaseException:
        forget(weights)
        raise
    finally:
        put_back(before)
        schedule._internal_losses.clear()
    return walked


def _ready(
    schedule: Any, context: _PipelineContext, loss_kwargs: Mapping[str, Any] | None
) -> tuple[Walker, list[_Action]]:
    """The walker, and the row of this rank; everything of the last step is forgotten."""
    for stage in schedule._stages:
        stage.clear_runtime_states()
        stage.has_backward = schedule._has_backward
    for kept in (schedule.fwd_recv_ops, schedule.bwd_recv_ops, schedule.backward_counter, schedule._internal_losses):
        kept.clear()
    stages = {stage.stage_index: stage for stage in schedule._stages}
    functions, trains = schedule._comp_type_to_function_map, schedule._has_backward
    walker = Walker(
        Computing(schedule, context, loss_kwargs, functions, stages, trains),
        Neighbours(stages, schedule.stage_index_to_group_rank, trains),
        _post(schedule._stages[0], schedule._n_microbatches),
    )
    row = [action for action in schedule.pipeline_order_with_comms[schedule.rank] if action is not None]
    for action in row:
        walker.neighbours.require(action)
    return walker, row


def _post(stage: Any, num_microbatches: int) -> Post:
    if stage.group_size > 1 and not has_cpu(stage.group):
        raise PipeNotImplementedError(
            f"custom functions need messages between tensors of the CPU, which {dist.get_backend_config(stage.group)} "
            "cannot send; start the processes with init_process_group('cpu:gloo,cuda:nccl')"
        )
    return Post(stage.group, stage.num_stages, num_microbatches)


def _run(walker: Walker, row: list[_Action]) -> None:
    """Runs a row; after an error the rest of it only to end the messages of other ranks."""
    done = 0
    try:
        for action in row:
            walker.run(action)
            done += 1
    except Exception:
        for action in row[done:]:
            walker.give_up(action)
        walker.post.end()
        raise
    walker.post.end()


def _finish(walker: Walker, weights: list[torch.Tensor]) -> None:
    """The gradients at the end of a step: of parameters that several ranks have the sum, then their mean."""
    if not walker.neighbours.has_backward:
        return
    sum_replicas(walker.neighbours, walker.post)
    # At the end and not by REDUCE_GRAD: a parameter of two stages of this rank is divided once.
    schedule = walker.computing.schedule
    if schedule.scale_grads and _ComputationType.REDUCE_GRAD not in walker.computing.functions:
        divide(weights, schedule._n_microbatches)


def _walked(schedule: Any) -> Walked:
    last = next((stage for stage in schedule._stages if stage.is_last), None)
    if last is None:
        return Walked(None, None)
    losses: list[torch.Tensor] = []
    if schedule._internal_losses:
        schedule._update_losses([last], losses)
    return Walked([detached(output) for output in last.output_chunks], losses or None)
