"""Rows with the waits that their actions cause."""

from collections import deque
from collections.abc import Mapping, Sequence

from funpipe.interop.pipelining._schedule_visualizer.looks import width_of
from funpipe.interop.pipelining.errors import PipeRuntimeError
from funpipe.interop.pipelining.schedules.action import _Action, parts
from funpipe.interop.pipelining.schedules.formatting import _format_pipeline_order
from funpipe.interop.pipelining.schedules.grid import busy
from funpipe.interop.pipelining.schedules.messages import makers_awaited


def add_schedule_op_spacing(schedule: Sequence[Sequence[_Action | None]]) -> list[list[_Action | None]]:
    """Puts None before each action for every column in which its rank waits for another one.

    An action lasts as many columns as it is wide (see `action_type_to_color_mapping`), and stands once in its row.
    What an action needs is there in the column after the end of what makes it.

    Args:
        schedule: a list for each rank, without messages; left as it is. Idle cells are passed over.

    Returns:
        New rows. A rank that is done has None until the column in which the last action of all begins.

    Raises:
        PipeRuntimeError: the ranks wait for each other.

    Example:
        >>> rows = [[_Action.from_str(text) for text in row.split()] for row in ("0F0 0B0", "1F0 1B0")]
        >>> add_schedule_op_spacing(rows)
        [[0F0, None, None, None, 0B0], [None, 1F0, 1B0, None]]
    """
    queues = [deque(busy(row)) for row in schedule]
    found: list[list[_Action | None]] = [[] for _ in queues]
    free = [0] * len(queues)
    there: dict[_Action, int] = {}
    stages = {part.stage_index for queue in queues for action in queue for part in parts(action)}
    last = 0
    while any(queues):
        starts = {
            rank: start
            for rank, queue in enumerate(queues)
            if queue and (start := _start(queue[0], free[rank], there, stages)) is not None
        }
        if not starts:
            raise _stuck(queues)
        rank = min(starts, key=lambda rank: (starts[rank], rank))
        action, start = queues[rank].popleft(), starts[rank]
        found[rank] += [*[None] * (start - free[rank]), action]
        free[rank] = start + width_of(action)
        there.update((part, free[rank]) for part in parts(action))
        last = max(last, start)
    return [row + [None] * (last + 1 - end) for row, end in zip(found, free, strict=True)]


def _start(action: _Action, free: int, there: Mapping[_Action, int], stages: set[int]) -> int | None:
    """The first column in which an action can begin; None where something that it needs was not run yet."""
    columns = [free]
    for part in parts(action):
        for makers in makers_awaited(part, stages):
            ends = [there[maker] for maker in makers if maker in there]
            if not ends:
                return None
            columns += ends
    return max(columns)


def _stuck(queues: Sequence[deque[_Action]]) -> PipeRuntimeError:
    left = {rank: list(queue) for rank, queue in enumerate(queues) if queue}
    return PipeRuntimeError(
        "No progress made in scheduling - possible deadlock; what is left:\n"
        f"{_format_pipeline_order(left)}Put what the first of each rank needs before it."
    )
