"""The text form of a table: a line that says where stages are, one line per rank, a legend.

```
stage -> rank: 0 1; microbatches: 1
rank 0 | 0F0 .   .   0B0
rank 1 | .   1F0 1B0 .
legend: ...
```
"""

import re
from collections.abc import Mapping, Sequence

from funpipe._errors import ScheduleError
from funpipe.schedules.task import Task

IDLE_TEXT = "."
LEGEND = (
    "legend: 2F0 is F of stage 2, microbatch 0; "
    "F forward, B backward, I input gradient, W weight gradient, . idle; time runs to the right"
)

_HEADER = re.compile(r"stage -> rank:((?: [0-9]{1,9})+); microbatches: ([0-9]{1,9})")
_ROW = re.compile(r"rank +([0-9]{1,9}) \|(.*)")


def grid(rows: Mapping[int, Sequence[str]], notes: Mapping[int, str] | None = None) -> list[str]:
    """One line per rank, its cells aligned in columns, with the rank's note after an arrow."""
    columns = zip(*rows.values(), strict=True)
    widths = [max(map(len, column)) for column in columns]
    digits = max((len(str(rank)) for rank in rows), default=1)
    lines = []
    for rank, row in rows.items():
        cells = " ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        arrow = f"  <-- {notes[rank]}" if notes and rank in notes else ""
        lines.append(f"rank {rank:>{digits}} | {cells}{arrow}".rstrip())
    return lines


def write(rows: Sequence[Sequence[str]], placement: Sequence[int], num_microbatches: int) -> str:
    """The whole text of a table whose cells are already text."""
    header = f"stage -> rank: {' '.join(map(str, placement))}; microbatches: {num_microbatches}"
    return "\n".join([header, *grid(dict(enumerate(rows))), LEGEND])


def read(text: str) -> tuple[list[list[Task | None]], tuple[int, ...], int]:
    """The rows, the placement and the number of microbatches that `write` was given."""
    lines = [line.strip() for line in text.strip().splitlines()]
    header = _HEADER.fullmatch(lines[0]) if lines else None
    if header is None:
        found = lines[0][:80] if lines else ""
        raise ScheduleError(f"line 1 is {found!r}; begin with a line like 'stage -> rank: 0 1; microbatches: 4'.")
    body = lines[1:-1] if lines[-1].startswith("legend:") else lines[1:]
    rows = [_read_row(line, rank) for rank, line in enumerate(body)]
    return rows, tuple(map(int, header[1].split())), int(header[2])


def _read_row(line: str, rank: int) -> list[Task | None]:
    match = _ROW.fullmatch(line)
    if match is None or int(match[1]) != rank:
        raise ScheduleError(f"line {rank + 2} is {line[:80]!r}; the row of rank {rank} begins with 'rank {rank} |'.")
    return [_read_cell(cell, rank, slot) for slot, cell in enumerate(match[2].split())]


def _read_cell(cell: str, rank: int, slot: int) -> Task | None:
    try:
        return None if cell == IDLE_TEXT else Task.parse(cell)
    except ScheduleError as error:
        raise ScheduleError(f"rank {rank}, slot {slot}: {error} An idle slot is '.'.") from None
