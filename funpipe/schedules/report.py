"""The error of a table that breaks a rule: what is wrong, the grid around it with the cells marked, the remedy."""

from collections.abc import Mapping
from typing import NamedTuple

from funpipe._errors import ScheduleError
from funpipe.schedules.table import Table
from funpipe.schedules.text import WIDENED, cells, grid

RANKS_SHOWN = 8
SLOTS_SHOWN = 12
"""How far to each side of the first mark the grid is shown."""


class Mark(NamedTuple):
    """Which cell of a rank is at fault (None: none, something is missing) and the note behind the arrow."""

    slot: int | None
    note: str


def failure(table: Table, what: str, marks: Mapping[int, Mark], remedy: str) -> ScheduleError:
    """The error to raise; `marks` has at most one mark for each rank."""
    first_rank, first = next(iter(marks.items()))
    ranks = _around(first_rank, RANKS_SHOWN, table.num_ranks)
    slots = _around(first.slot or 0, SLOTS_SHOWN, table.num_slots)
    rows = {rank: _cells(table, rank, slots, marks.get(rank)) for rank in ranks}
    lines = grid(rows, {rank: mark.note for rank, mark in marks.items()})
    if len(ranks) < table.num_ranks or len(slots) < table.num_slots:
        lines.append(f"(slots {slots.start} to {slots.stop - 1} of {table.num_slots}, {table.num_ranks} ranks)")
    return ScheduleError("\n".join([what, *lines, remedy]))


def _around(middle: int, reach: int, size: int) -> range:
    return range(max(0, middle - reach), min(size, middle + reach + 1))


def _cells(table: Table, rank: int, slots: range, mark: Mark | None) -> list[str]:
    texts = dict(zip(slots, cells(table.rows[rank][slots.start : slots.stop]), strict=True))
    if texts[slots.start] == WIDENED:
        texts[slots.start] = str(table.rows[rank][slots.start])
    if mark is not None and mark.slot in texts:
        at = mark.slot - 1 if texts[mark.slot] == WIDENED else mark.slot
        texts[at] = f"[{texts[at]}]"
    return list(texts.values())
