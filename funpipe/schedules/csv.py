"""The CSV form of a table: one row per rank, one cell per task, as torch.distributed.pipelining writes and reads it.

```
0F0,0F1,,0B0,,0B1
,1F0,1B0,1F1,1B1,
```

The cells' grammar is in `actions`. Two tasks at once are one cell here and two slots of the table, so columns after
them are shifted; the order in each row is what counts.
"""

import csv
import io
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path

from funpipe._errors import ScheduleError
from funpipe.schedules.actions import Action, read_cell, write_cell
from funpipe.schedules.messages import parts, with_communication
from funpipe.schedules.require_messages import Place, Where, require_messages
from funpipe.schedules.row import Cell
from funpipe.schedules.task import Overlap, Task

MAX_BYTES = 2**29
MAX_CELLS = 2**25
"""Of a file. A table of 1024 ranks and 4096 microbatches with all its communication has fewer."""

SPARSE = 16
"""How many times more cells a grid may have than its file: the rest would be idle ends of short rows."""


def write(rows: Sequence[Sequence[Cell | Action]]) -> str:
    """Rows as CSV.

    Args:
        rows: for each rank its cells, an overlap once.

    Returns:
        One line for each rank.
    """
    return "".join(",".join(map(write_cell, row)) + "\n" for row in rows)


def once(row: Sequence[Cell], second: Sequence[bool]) -> list[Cell]:
    """A row without the second slots of its overlaps."""
    return [cell for cell, is_second in zip(row, second, strict=True) if not is_second]


def write_with_communication(orders: Sequence[Sequence[Task | Overlap]], placement: Sequence[int]) -> str:
    """Rows as CSV, with all their communication and without idle cells; see `with_communication`."""
    return write(with_communication(orders, placement))


def read_file(path: str | os.PathLike[str]) -> str:
    """The text of a file.

    Raises:
        ScheduleError: it is a directory or a device, has more than `MAX_BYTES`, or is not UTF-8.
        OSError: it cannot be read.
    """
    name = os.fspath(path)
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise ScheduleError(f"{name} is not a file; pass the path of a CSV file.")
    if found.st_size > MAX_BYTES:
        raise ScheduleError(f"{name} has {found.st_size} bytes; a table's file has at most {MAX_BYTES}.")
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ScheduleError(f"{name} is not text: byte {error.start} is not UTF-8; pass a CSV file.") from None


def read(
    text: str, placement: Sequence[int] | None = None, name: str = "the text"
) -> tuple[list[list[Cell]], tuple[int, ...], int]:
    """What a table is made from: rows (an overlap twice, as a table's rows read), placement, number of microbatches.

    Args:
        text: CSV.
        placement: the rank of each stage; None: each stage is on the rank whose row has its tasks.
        name: of the file, for errors.

    Raises:
        ScheduleError: a cell, a stage or a microbatch that makes no sense, with its row and column, from 1.
    """

    def where(place: Place) -> str:
        return f"{name}, row {place.rank + 1}, column {place.column + 1}"

    rows = [_read_row(fields, rank, where) for rank, fields in enumerate(_fields(text, name))]
    _require_work(rows, name)
    found = _placement(rows, placement, where)
    ranks = tuple(found[stage] for stage in range(_none_missing(found, "stage", name)))
    num_microbatches = _none_missing({task.microbatch for _, task in _tasks(rows)}, "microbatch", name)
    require_messages(rows, ranks, where)
    cells = [[cell for cell in row if not isinstance(cell, Action)] for row in rows]
    _require_dense(rows, cells, name)
    return [_twice(row) for row in cells], ranks, num_microbatches


def _fields(text: str, name: str) -> list[list[str]]:
    cells = 1 + sum(map(text.count, ",\n\r"))
    if cells > MAX_CELLS:
        raise ScheduleError(f"{name} has up to {cells} cells; a table's file has at most {MAX_CELLS}.")
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise ScheduleError(f"{name} is not CSV: {error}; write one row per rank, cells with commas between.") from None
    while rows and not rows[-1]:
        rows.pop()
    return rows


def _read_row(fields: Sequence[str], rank: int, where: Where) -> list[Cell | Action]:
    return [_read(field, Place(rank, column), where) for column, field in enumerate(fields)]


def _read(field: str, place: Place, where: Where) -> Cell | Action:
    try:
        return read_cell(field)
    except ScheduleError as error:
        raise ScheduleError(f"{where(place)}: {error}") from None


def _tasks(rows: Sequence[Sequence[Cell | Action]]) -> Iterator[tuple[Place, Task]]:
    for rank, row in enumerate(rows):
        for column, cell in enumerate(row):
            for task in () if cell is None else parts(cell):
                yield Place(rank, column), task


def _require_work(rows: Sequence[Sequence[Cell | Action]], name: str) -> None:
    working = {place.rank for place, _ in _tasks(rows)}
    idle = next(rank for rank in count() if rank not in working)
    if idle < max(len(rows), 1):
        raise ScheduleError(f"{name}, row {idle + 1}: no task; every rank holds a stage: remove the row, or fill it.")


def _placement(rows: Sequence[Sequence[Cell | Action]], given: Sequence[int] | None, where: Where) -> dict[int, int]:
    """The rank of each stage, as given or as found."""
    found = dict(enumerate(given or ()))
    first: dict[int, Place] = {}
    for place, task in _tasks(rows):
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


def _none_missing(numbers: Mapping[int, int] | set[int], word: str, name: str) -> int:
    """How many numbers there are, if they are all from 0 on; so no file asks for more memory than it has tasks."""
    missing = next(number for number in count() if number not in numbers)
    if missing < len(numbers):
        raise ScheduleError(
            f"{name}: no task is of {word} {missing}, but one is of {word} {max(numbers)}; "
            "number them from 0 without gaps."
        )
    return missing


def _require_dense(rows: Sequence[Sequence[object]], cells: Sequence[Sequence[Cell]], name: str) -> None:
    """Rows of very different lengths would ask for far more memory than the file has."""
    longest = max(range(len(cells)), key=lambda rank: len(cells[rank]))
    grid, written = 2 * len(cells) * len(cells[longest]), sum(map(len, rows))
    if grid > max(SPARSE * written, 2**20):
        raise ScheduleError(
            f"{name}, row {longest + 1} has {len(cells[longest])} cells, and all {len(cells)} rows together {written}; "
            "shorten that row."
        )


def _twice(row: Sequence[Cell]) -> list[Cell]:
    return [slot for cell in row for slot in ((cell, cell) if isinstance(cell, Overlap) else (cell,))]
