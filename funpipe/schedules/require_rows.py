"""Whether the rows of a file give a table: work on each rank, a rank for each stage, numbers without gaps."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import cast

from funpipe._errors import ScheduleError
from funpipe.schedules.messages import Item, parts
from funpipe.schedules.require_messages import Place, Where
from funpipe.schedules.row import Cell
from funpipe.schedules.task import Task

SPARSE = 16
"""How many times more cells a grid may have than its file: the rest would be idle ends of short rows."""


def tasks_of(items: Sequence[tuple[Place, Item]]) -> list[tuple[Place, Task]]:
    """The tasks among the cells, those of overlaps included, with their places."""
    return list(_tasks(items))


def require_work(tasks: Sequence[tuple[Place, Task]], num_rows: int, name: str) -> None:
    """Every row has a task.

    Raises:
        ScheduleError: one has none.
    """
    working = {place.rank for place, _ in tasks}
    idle = next(rank for rank in count() if rank not in working)
    if idle < max(num_rows, 1):
        raise ScheduleError(f"{name}, row {idle + 1}: no task; every rank holds a stage: remove the row, or fill it.")


def placement_of(tasks: Sequence[tuple[Place, Task]], placement: Sequence[int] | None, where: Where) -> dict[int, int]:
    """The rank of each stage, as given or as found.

    Raises:
        ScheduleError: a stage is on two ranks, or on another one than given, or on none.
    """
    given = None if placement is None else _ranks(placement)
    found = dict(enumerate(given or ()))
    first: dict[int, Place] = {}
    for place, task in tasks:
        if given is not None and task.stage not in found:
            raise ScheduleError(
                f"{where(place)}: {task}: placement has stages 0 to {len(given) - 1} only; name its rank."
            )
        first.setdefault(task.stage, place)
        rank = found.setdefault(task.stage, place.rank)
        if rank != place.rank:
            why = f"placed on rank {rank}" if given is not None else f"in row {rank + 1} ({where(first[task.stage])})"
            remedy = f"a stage is on one rank: move {task} to row {rank + 1}."
            raise ScheduleError(f"{where(place)}: {task}: stage {task.stage} is {why}; {remedy}")
    return found


def none_missing(numbers: Mapping[int, int] | set[int], word: str, name: str) -> int:
    """How many numbers there are, if they are all from 0 on; so no file asks for more memory than it has tasks.

    Raises:
        ScheduleError: one is missing.
    """
    missing = next(number for number in count() if number not in numbers)
    if missing < len(numbers):
        raise ScheduleError(
            f"{name}: no task is of {word} {missing}, but one is of {word} {max(numbers)}; "
            "number them from 0 without gaps."
        )
    return missing


def require_dense(rows: Sequence[Sequence[object]], cells: Sequence[Sequence[Cell]], name: str) -> None:
    """Rows of very different lengths would ask for far more memory than the file has.

    Raises:
        ScheduleError: the grid would be mostly the idle ends of short rows.
    """
    longest = max(range(len(cells)), key=lambda rank: len(cells[rank]))
    grid, written = 2 * len(cells) * len(cells[longest]), sum(map(len, rows))
    if grid > max(SPARSE * written, 2**20):
        raise ScheduleError(
            f"{name}, row {longest + 1} has {len(cells[longest])} cells, and all {len(cells)} rows together {written}; "
            "shorten that row."
        )


def _tasks(items: Sequence[tuple[Place, Item]]) -> Iterator[tuple[Place, Task]]:
    for placed in items:
        if isinstance(placed[1], Task):
            yield cast(tuple[Place, Task], placed)  # the very pair: files have millions
        else:
            yield from ((placed[0], task) for task in parts(placed[1]))


def _ranks(placement: Sequence[int]) -> tuple[int, ...]:
    ranks = tuple(map(int, placement))
    if not ranks or min(ranks) < 0:
        raise ScheduleError(f"placement={ranks}; name a rank, from 0 on, for each stage.")
    return ranks
