"""The rows of a schedule class for any numbers, without a process group."""

from types import SimpleNamespace
from typing import Any

from funpipe.interop.pipelining._schedule_visualizer.spacing import add_schedule_op_spacing
from funpipe.interop.pipelining.errors import PipeAssertionError, PipeTypeError, PipeValueError
from funpipe.interop.pipelining.schedules import (
    PipelineScheduleMulti,
    PipelineScheduleSingle,
    _Action,
    _PipelineSchedule,
    get_schedule_class,
)
from funpipe.interop.pipelining.schedules.grid import Rows
from funpipe.interop.pipelining.schedules.lowering import lower
from funpipe.interop.pipelining.schedules.reduce_grad import without_reduce_grad


def get_schedule_ops(
    schedule: str | type[_PipelineSchedule],
    pp_degree: int,
    num_microbatches: int,
    num_stages_per_rank: int | None = None,
    add_spacing: bool = False,
    with_comms: bool = False,
    defer_pp_recv: bool = False,
) -> list[list[_Action | None]]:
    """What each rank runs.

    Args:
        schedule: a class, or its name.
        pp_degree: how many ranks.
        num_microbatches: of a step.
        num_stages_per_rank: None: one, or two for a schedule with several.
        add_spacing: whether ranks wait in it for each other, as `add_schedule_op_spacing` shows.
        with_comms: whether it has communication.
        defer_pp_recv: whether receives are moved to where their values are needed; with communication only.

    Returns:
        A list for each rank: its actions, None where it is idle.

    Raises:
        PipeValueError: no such schedule; or spacing together with communication.
        PipeAssertionError: the schedule does not exist for so many stages on a rank, or has no rows.
        PipeTypeError: something else than a class or a name was passed.

    Example:
        >>> get_schedule_ops("1F1B", pp_degree=2, num_microbatches=2, add_spacing=True)[1][:4]
        [None, 1F0, 1B0, 1F1]
    """
    if add_spacing and with_comms:
        raise PipeValueError("Cannot add spacing and view comms at the same time; ask for one of them.")
    made = _made(_class_of(schedule), pp_degree, num_microbatches, num_stages_per_rank)
    if not made.pipeline_order:
        raise PipeAssertionError(f"Expected pipeline_order to not be None; {type(made).__name__} has no rows.")
    rows: Rows = made.pipeline_order
    if with_comms:
        stages, rank_of = made._num_stages, made._stage_to_rank().__getitem__
        bare = {rank: without_reduce_grad(row) for rank, row in rows.items()}
        rows = lower(bare, rank_of, stages, num_microbatches, defer_pp_recv=defer_pp_recv)
    found: list[list[_Action | None]] = [[*rows[rank]] for rank in sorted(rows)]
    return add_schedule_op_spacing(found) if add_spacing else found


def _class_of(schedule: Any) -> type[PipelineScheduleSingle] | type[PipelineScheduleMulti]:
    found = get_schedule_class(schedule) if isinstance(schedule, str) else schedule
    if not isinstance(found, type):
        raise PipeTypeError(f"schedule is a {type(schedule).__name__}; pass a schedule class, or its name.")
    if not issubclass(found, (PipelineScheduleSingle, PipelineScheduleMulti)):
        raise PipeValueError(f"Invalid schedule: {schedule}; pass a schedule class, or its name.")
    return found


def _made(cls: Any, pp_degree: int, num_microbatches: int, num_stages_per_rank: int | None) -> Any:
    """The schedule of rank 0; the rows of all ranks are in it."""
    if issubclass(cls, PipelineScheduleSingle):
        if num_stages_per_rank not in (None, 1):
            raise PipeAssertionError(f"Expected num_stages_per_rank to be 1, got {num_stages_per_rank}")
        return cls(_stage(pp_degree, pp_degree), num_microbatches)
    count = 2 if num_stages_per_rank is None else num_stages_per_rank
    if count < 2:
        raise PipeAssertionError(f"Expected num_stages_per_rank >= 2, got {count}")
    return cls([_stage(count * pp_degree, pp_degree) for _ in range(count)], num_microbatches)


def _stage(num_stages: int, pp_degree: int) -> Any:
    """As much of a stage as a schedule asks for when it is made."""
    return SimpleNamespace(submod=None, num_stages=num_stages, group_size=pp_degree, group_rank=0, group=None)
