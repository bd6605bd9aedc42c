"""All ranks of a table played by one: the same tasks in one order that every rank's own order is a part of."""

from funpipe.schedules.table import Table
from funpipe.schedules.task import Task


def merge(table: Table) -> Table:
    """The table of one rank that runs every task of another table.

    Ranks take turns, one task each, as soon as its predecessors ran; each rank's own order is kept, so activations live
    no longer than they do on several ranks.

    Args:
        table: a table that passes `check`.

    Returns:
        A table with one row, all stages on rank 0.

    Example:
        >>> from funpipe.schedules import GPipe
        >>> print(*merge(GPipe().table(2, 2)).order(0))
        0F0 0F1 1F0 1F1 1B0 1B1 0B0 0B1
    """
    waiting = [list(table.order(rank))[::-1] for rank in range(table.num_ranks)]
    done: set[Task] = set()
    merged: list[Task] = []
    while any(waiting):
        ready = [row for row in waiting if row and _ready(row[-1], done, table.num_stages)]
        turn = [row.pop() for row in ready]
        merged += turn
        done.update(turn)
    return Table.from_rows([merged], placement=(0,) * table.num_stages, num_microbatches=table.num_microbatches)


def forward_only(table: Table) -> Table:
    """The forward tasks of a table, in their order: the schedule of an evaluation.

    Args:
        table: any table.

    Returns:
        A table with the same placement.

    Example:
        >>> from funpipe.schedules import GPipe
        >>> print(*forward_only(GPipe().table(1, 2)).order(0))
        0F0 0F1
    """
    rows = [[t for t in table.order(rank) if t.kind == "F"] for rank in range(table.num_ranks)]
    return Table.from_rows(rows, placement=table.placement, num_microbatches=table.num_microbatches)


def _ready(task: Task, done: set[Task], num_stages: int) -> bool:
    return all(any(t in done for t in options) for options in _before(task, num_stages))


def _before(task: Task, num_stages: int) -> list[tuple[Task, ...]]:
    """What must have run: for each predecessor the tasks that give it (a whole backward, or its I)."""
    s, i = task.stage, task.microbatch
    if task.kind == "F":
        return [(Task("F", s - 1, i),)] if s else []
    if task.kind == "W":
        return [(Task("I", s, i),)]
    above: list[tuple[Task, ...]] = [(Task("B", s + 1, i), Task("I", s + 1, i))] if s + 1 < num_stages else []
    return [(Task("F", s, i),), *above]
