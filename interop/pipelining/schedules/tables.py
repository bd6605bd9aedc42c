"""Between rows of actions and funpipe's task tables.

A table holds tasks alone, since a program places its own communication. So communication that rows give is checked
against their tasks, and left out.
"""

from collections.abc import Mapping, Sequence

import funpipe as fp
from funpipe.interop.pipelining.errors import PipeAssertionError
from funpipe.interop.pipelining.schedules.action import _Action, parts
from funpipe.interop.pipelining.schedules.computation_type import (
    BACKWARD_INPUT,
    BACKWARD_WEIGHT,
    FORWARD,
    FULL_BACKWARD,
    OVERLAP_F_B,
    _ComputationType,
)
from funpipe.interop.pipelining.schedules.grid import Rows
from funpipe.schedules import Overlap, Table, Task


def table_of(pipeline_order: Rows, stage_index_to_rank: Mapping[int, int]) -> Table:
    """The table of rows of actions.

    An overlap of anything else than a forward and then a backward that does not need it is run one after the other.

    Args:
        pipeline_order: for each rank its actions, with communication or without; left as they are.
        stage_index_to_rank: the rank of each stage.

    Returns:
        A table that passes `fp.schedules.check`.

    Raises:
        PipeAssertionError: rows, stages or microbatches are missing; a task is not on its stage's rank, twice there, or
            before what it needs; ranks wait for each other; communication does not fit the tasks.

    Example:
        >>> rows = {0: [_Action.from_str("0F0"), _Action.from_str("0B0"), _Action.from_str("0REDUCE_GRAD")]}
        >>> table_of(rows, {0: 0}).order(0)
        (Task(kind='F', stage=0, microbatch=0), Task(kind='B', stage=0, microbatch=0))
    """
    ranks = _in_order(pipeline_order, "rank", "give each rank its actions")
    stages = _in_order(stage_index_to_rank, "stage", "give each stage its rank")
    text = "".join(",".join(cell for a in pipeline_order[rank] for cell in _cells(a)) + "\n" for rank in ranks)
    try:
        table = Table.parse_csv(text, placement=[stage_index_to_rank[stage] for stage in stages])
        fp.schedules.check(table)
    except fp.FunpipeError as error:
        raise PipeAssertionError(str(error)) from None
    return table


def order_of(table: Table) -> dict[int, list[_Action | None]]:
    """The rows of a table: the inverse of `table_of`, but for idle cells beside overlaps, which take one cell here.

    Args:
        table: the table.

    Returns:
        For each rank its actions, None where it is idle.

    Example:
        >>> order_of(fp.schedules.GPipe().table(2, 1))
        {0: [0F0, None, None, 0B0], 1: [None, 1F0, 1B0, None]}
    """
    rows = zip(table.rows, table.joined, strict=True)
    return {
        rank: [action_of(cell) for slot, cell in enumerate(row) if not (slot and joined[slot - 1])]
        for rank, (row, joined) in enumerate(rows)
    }


def action_of(cell: Task | Overlap | None) -> _Action | None:
    """A cell of a table as an action.

    Example:
        >>> action_of(Overlap(Task("F", 0, 1), Task("B", 3, 0)))
        (0F1;3B0)OVERLAP_F_B
    """
    if cell is None:
        return None
    if isinstance(cell, Overlap):
        return _Action(-1, OVERLAP_F_B, None, tuple(map(_task, cell)))
    return _task(cell)


def _task(task: Task) -> _Action:
    return _Action(task.stage, _ComputationType(task.kind), task.microbatch)


def _cells(action: _Action | None) -> Sequence[str]:
    """An action as cells of a table's CSV; what cannot run at once runs one after the other."""
    if action is None:
        return [""]
    if action.computation_type != OVERLAP_F_B or _at_once(parts(action)):
        return [str(action)]
    return [str(part) for part in parts(action)]


def _at_once(found: Sequence[_Action]) -> bool:
    """Whether actions are a forward and then a backward that does not need it."""
    if len(found) != 2:
        return False
    (stage, kind, microbatch, _), (other_stage, other_kind, other_microbatch, _) = found
    backward = other_kind in (FULL_BACKWARD, BACKWARD_INPUT, BACKWARD_WEIGHT)
    return kind == FORWARD and backward and (stage, microbatch) != (other_stage, other_microbatch)


def _in_order(numbered: Mapping[int, object], word: str, remedy: str) -> Sequence[int]:
    missing = next((number for number in range(len(numbered)) if number not in numbered), None)
    if missing is not None or not numbered:
        raise PipeAssertionError(f"Schedule is missing {word} {missing or 0}; number them from 0, and {remedy}.")
    return range(len(numbered))
