"""A rank's row of a table, read lazily: tables are integers, and tasks are made when someone looks."""

from collections.abc import Sequence
from typing import overload

import numpy as np

from funpipe.schedules.codes import IDLE, unpack
from funpipe.schedules.task import Task


class Row(Sequence[Task | None]):
    """A rank's row: a sequence of tasks, None where the rank idles, made when they are read."""

    def __init__(self, cells: np.ndarray, num_microbatches: int) -> None:
        self._cells = cells
        self._num_microbatches = num_microbatches

    @overload
    def __getitem__(self, index: int) -> Task | None: ...
    @overload
    def __getitem__(self, index: slice) -> "Row": ...
    def __getitem__(self, index: int | slice) -> "Task | None | Row":
        if isinstance(index, slice):
            return Row(self._cells[index], self._num_microbatches)
        code = int(self._cells[index])
        return None if code == IDLE else unpack(code, self._num_microbatches)

    def __len__(self) -> int:
        return len(self._cells)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __repr__(self) -> str:
        return f"Row({' '.join('.' if task is None else str(task) for task in self)})"
