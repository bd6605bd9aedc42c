"""The text form of a table: a line that says where stages are, one line per rank, a legend.

```
stage -> rank: 0 1; microbatches: 1
rank 0 | 0F0 .   .   0B0
rank 1 | .   1F0 1B0 .
legend: ...
```

Two tasks that run together, `0F1&3B0`, take two columns.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from funpipe._errors import ScheduleError
from funpipe.schedules.row import Cell, Row
from funpipe.schedules.task import JOIN, Overlap, Task

IDLE_TEXT = "."
LEGEND = (
    "legend: 2F0 is F of stage 2, microbatch 0; "
    "F forward, B backward, I input gradient, W weight gradient, . idle; time runs to the right"
)
WIDENED = ""
"""The text of a column that the cell to its left reaches into."""

_HEADER = re.compile(r"stage -> rank:((?: [0-9]{1,9})+); microbatches: ([0-9]{1,9})")
_ROW = re.compile(r"rank +([0-9]{1,9}) \|(.*)")


def grid(rows: Mapping[int, Sequence[str]], notes: Mapping[int, str] | None = None) -> list[str]:
    """One line per rank, its cells aligned in columns, with the rank's note after an arrow."""
    widths = _widths(list(rows.values()))
    digits = max((len(str(rank)) for rank in rows), default=1)
    lines = []
    for rank, row in rows.items():
        cells = " ".join(cell.ljust(width) for cell, width in _fields(row, widths))
        arrow = f"  <-- {notes[rank]}" if notes and rank in notes else ""
        lines.append(f"rank {rank:>{digits}} | {cells}{arrow}".rstrip())
    return lines


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """The width of each column; what reaches into the next one widens that, if both are too narrow."""
    widths = [0] * len(rows[0]) if rows else []
    for slot in range(len(widths)):
        for row in rows:
            if row[slot] == WIDENED and slot:
                widths[slot] = max(widths[slot], len(row[slot - 1]) - widths[slot - 1] - 1)
            elif slot + 1 == len(row) or row[slot + 1] != WIDENED:
                widths[slot] = max(widths[slot], len(row[slot]))
    return widths


def _fields(row: Sequence[str], widths: Sequence[int]) -> Iterator[tuple[str, int]]:
    """The cells of a row with the width that each has."""
    for slot, cell in enumerate(row):
        if cell != WIDENED:
            wide = slot + 1 < len(row) and row[slot + 1] == WIDENED
            yield cell, widths[slot] + (1 + widths[slot + 1] if wide else 0)


def cells(row: Row) -> list[str]:
    """The texts of a row's cells, or of some of them."""
    texts = [IDLE_TEXT if cell is None else str(cell) for cell in row]
    return [WIDENED if reached else cell for cell, reached in zip(texts, row.second, strict=True)]


def write(rows: Sequence[Row], placement: Sequence[int], num_microbatches: int) -> str:
    """The whole text of a table."""
    header = f"stage -> rank: {' '.join(map(str, placement))}; microbatches: {num_microbatches}"
    return "\n".join([header, *grid(dict(enumerate(map(cells, rows)))), LEGEND])


def read(text: str) -> tuple[list[list[Cell]], tuple[int, ...], int]:
    """The rows, the placement and the number of microbatches that `write` was given."""
    lines = [line.strip() for line in text.strip().splitlines()]
    header = _HEADER.fullmatch(lines[0]) if lines else None
    if header is None:
        found = lines[0][:80] if lines else ""
        raise ScheduleError(f"line 1 is {found!r}; begin with a line like 'stage -> rank: 0 1; microbatches: 4'.")
    body = lines[1:-1] if lines[-1].startswith("legend:") else lines[1:]
    rows = [_read_row(line, rank) for rank, line in enumerate(body)]
    return rows, tuple(map(int, header[1].split())), int(header[2])


def _read_row(line: str, rank: int) -> list[Cell]:
    match = _ROW.fullmatch(line)
    if match is None or int(match[1]) != rank:
        raise ScheduleError(f"line {rank + 2} is {line[:80]!r}; the row of rank {rank} begins with 'rank {rank} |'.")
    return [_read_cell(cell, rank, slot) for slot, cell in enumerate(match[2].split())]


def _read_cell(cell: str, rank: int, slot: int) -> Cell:
    try:
        if cell == IDLE_TEXT:
            return None
        return Overlap.parse(cell) if JOIN in cell else Task.parse(cell)
    except ScheduleError as error:
        raise ScheduleError(f"rank {rank}, slot {slot}: {error} An idle slot is '.'.") from None
