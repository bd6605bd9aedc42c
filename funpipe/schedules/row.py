"""A rank's row of a table, read lazily: tables are integers, and tasks are made when someone looks."""

from collections.abc import Sequence
from typing import overload

import numpy as np

from funpipe.schedules.codes import IDLE, unpack
from funpipe.schedules.task import Overlap, Task

Cell = Task | Overlap | None
"""What a slot of a row reads as. Two tasks that run together take two slots, and both read as their `Overlap`."""


class Row(Sequence[Cell]):
    """A rank's row: a sequence of tasks, overlaps, and None where the rank idles, made when they are read."""

    def __init__(self, cells: np.ndarray, joined: np.ndarray, num_microbatches: int, slots: range) -> None:
        self._cells = cells
        self._joined = joined
        self._num_microbatches = num_microbatches
        self._slots = slots

    @overload
    def __getitem__(self, index: int) -> Cell: ...
    @overload
    def __getitem__(self, index: slice) -> "Row": ...
    def __getitem__(self, index: int | slice) -> "Cell | Row":
        if isinstance(index, slice):
            return Row(self._cells, self._joined, self._num_microbatches, self._slots[index])
        slot = self._slots[index]
        if self._joined[slot]:
            return self._overlap(slot)
        if slot and self._joined[slot - 1]:
            return self._overlap(slot - 1)
        return self._task(slot)

    def __len__(self) -> int:
        return len(self._slots)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __repr__(self) -> str:
        return f"Row({' '.join('.' if cell is None else str(cell) for cell in self)})"

    @property
    def second(self) -> np.ndarray:
        """Whether a cell runs together with the one to its left: the second slots of overlaps."""
        at = np.array(self._slots, np.int64)
        return (at > 0) & self._joined[at - 1]

    def order(self) -> tuple[Task | Overlap, ...]:
        """Its tasks one after the other, an overlap once."""
        begins = (self._cells[np.array(self._slots, np.int64)] != IDLE) & ~self.second
        return tuple(cell for i in np.flatnonzero(begins) if (cell := self[int(i)]) is not None)

    def _task(self, slot: int) -> Task | None:
        code = int(self._cells[slot])
        return None if code == IDLE else unpack(code, self._num_microbatches)

    def _overlap(self, slot: int) -> Overlap:
        first, second = (unpack(int(code), self._num_microbatches) for code in self._cells[slot : slot + 2])
        return Overlap(first, second)


def spread(row: Sequence[Cell]) -> tuple[list[Task | None], list[int]]:
    """The tasks of a row, one a slot, and the slots of the firsts of its overlaps."""
    tasks: list[Task | None] = []
    firsts: list[int] = []
    open_pair = None
    for cell in row:
        if not isinstance(cell, Overlap):
            tasks.append(cell)
        elif cell != open_pair:
            firsts.append(len(tasks))
            tasks += cell
            open_pair = cell
            continue
        open_pair = None
    return tasks, firsts
