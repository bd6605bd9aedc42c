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
from collections.abc import Sequence
from pathlib import Path

from funpipe._errors import ScheduleError
from funpipe.schedules.actions import Action, read_cell, write_cell
from funpipe.schedules.messages import with_communication
from funpipe.schedules.require_messages import Place, Where, require_messages
from funpipe.schedules.require_rows import none_missing, placement_of, require_dense, require_work, tasks_of
from funpipe.schedules.row import Cell, Row
from funpipe.schedules.task import Overlap

MAX_BYTES = 2**29
MAX_CELLS = 2**25
"""Of a file. A table of 1024 ranks and 4096 microbatches with all its communication has fewer."""


def write(rows: Sequence[Row]) -> str:
    """Rows as CSV, one line for each rank; an overlap is one cell."""
    return _lines([[cell for cell, second in zip(row, row.second, strict=True) if not second] for row in rows])


def write_with_communication(rows: Sequence[Row], placement: Sequence[int]) -> str:
    """Rows as CSV, with all their communication and without idle cells; see `with_communication`."""
    return _lines(with_communication([row.order() for row in rows], placement))


def _lines(rows: Sequence[Sequence[Cell | Action]]) -> str:
    return "".join(",".join(map(write_cell, row)) + "\n" for row in rows)


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
    items = [(Place(r, c), cell) for r, row in enumerate(rows) for c, cell in enumerate(row) if cell is not None]
    tasks = tasks_of(items)
    require_work(tasks, len(rows), name)
    found = placement_of(tasks, placement, where)
    ranks = tuple(found[stage] for stage in range(none_missing(found, "stage", name)))
    num_microbatches = none_missing({task.microbatch for _, task in tasks}, "microbatch", name)
    require_messages(items, ranks, where)
    cells = [[cell for cell in row if not isinstance(cell, Action)] for row in rows]
    require_dense(rows, cells, name)
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


def _twice(row: Sequence[Cell]) -> list[Cell]:
    return [slot for cell in row for slot in ((cell, cell) if isinstance(cell, Overlap) else (cell,))]
