"""Rows of actions as CSV files: a line for each rank, a cell for each action, nothing in a cell where it is idle."""

import csv
import os
import stat

from funpipe.interop.pipelining.errors import PipeRuntimeError, PipeValueError
from funpipe.interop.pipelining.schedules.action import _Action
from funpipe.interop.pipelining.schedules.grid import Rows

MOST_BYTES = 2**29
"""Of a file; a schedule of 1024 ranks and 4096 microbatches with all its communication has fewer."""


def write_csv(rows: Rows, filename: str | os.PathLike[str]) -> None:
    """Writes rows.

    Args:
        rows: for each rank its actions, None where it is idle.
        filename: of the file, which is overwritten.
    """
    with open(filename, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for rank in sorted(rows):
            writer.writerow("" if action is None else str(action) for action in rows[rank])


def read_csv(filename: str | os.PathLike[str]) -> dict[int, list[_Action | None]]:
    """Reads what `write_csv` writes.

    Args:
        filename: of the file.

    Returns:
        For each rank its actions, None where it is idle.

    Raises:
        PipeValueError: it is no text file, or too large.
        PipeRuntimeError: a cell is something else.
        OSError: it cannot be read.
    """
    _require_text_file(filename)
    with open(filename, newline="", encoding="utf-8-sig") as file:
        try:
            lines = list(csv.reader(file, strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise PipeValueError(f"{os.fspath(filename)} is no CSV file: {error}.") from None
    while lines and not lines[-1]:
        lines.pop()
    return {rank: [_read(cell, rank, column) for column, cell in enumerate(line)] for rank, line in enumerate(lines)}


def _require_text_file(filename: str | os.PathLike[str]) -> None:
    found = os.stat(filename)
    if not stat.S_ISREG(found.st_mode):
        raise PipeValueError(f"{os.fspath(filename)} is not a file; pass the path of a CSV file.")
    if found.st_size > MOST_BYTES:
        raise PipeValueError(f"{os.fspath(filename)} has {found.st_size} bytes; a schedule has at most {MOST_BYTES}.")


def _read(cell: str, rank: int, column: int) -> _Action | None:
    try:
        return _Action.from_str(cell)
    except PipeRuntimeError as error:
        raise PipeRuntimeError(f"{error} (row {rank + 1}, column {column + 1})") from None
