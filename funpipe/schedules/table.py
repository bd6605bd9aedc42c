"""A schedule as data: for each rank, what it runs in each slot of time.

A slot is a column of the drawn grid, not a duration: how long things take is given to `simulate`. What a table means is
the order in each row; where its idle cells are is only how it is drawn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from funpipe.schedules import text
from funpipe.schedules.codes import IDLE, is_kind, pack, pair_of
from funpipe.schedules.requirements import (
    require_cells,
    require_in_range,
    require_no_collision,
    require_room,
    require_sizes,
    require_slots,
)
from funpipe.schedules.row import Row
from funpipe.schedules.task import Kind, Task


@dataclass(frozen=True, eq=False, repr=False)
class Table:
    """A schedule's table: a grid of tasks, one row per rank, and the rank of each stage.

    Tables are made by a schedule's `table`, by `Table.from_rows`, `Table.from_slots` or `Table.parse`. They are equal
    when all their cells, placements and numbers of microbatches are.

    Args:
        cells: integers, shape (num_ranks, num_slots): -1 for idle, else
            `(stage * num_microbatches + microbatch) * 4 + kind`, with kind 0 to 3 for F, B, I, W. Copied; read-only.
        placement: the rank of each stage.
        num_microbatches: how many microbatches a step has.

    Raises:
        ScheduleError: a cell is no task of this table, or a stage's rank has no row.

    Example:
        >>> from funpipe.schedules import OneFOneB
        >>> table = OneFOneB().table(num_ranks=2, num_microbatches=2)
        >>> table.rows[1][1]
        Task(kind='F', stage=1, microbatch=0)
        >>> table.num_ranks, table.num_stages, table.num_slots
        (2, 2, 6)
    """

    cells: np.ndarray
    placement: tuple[int, ...]
    num_microbatches: int

    def __post_init__(self) -> None:
        cells = np.asarray(self.cells)
        placement = tuple(int(rank) for rank in self.placement)
        require_sizes(cells, placement, self.num_microbatches)
        require_cells(cells, 4 * len(placement) * self.num_microbatches)
        cells = cells.astype(np.int32)
        cells.setflags(write=False)
        object.__setattr__(self, "cells", cells)
        object.__setattr__(self, "placement", placement)

    @property
    def num_ranks(self) -> int:
        """The number of rows."""
        return self.cells.shape[0]

    @property
    def num_slots(self) -> int:
        """The number of columns."""
        return self.cells.shape[1]

    @property
    def num_stages(self) -> int:
        """The number of stages on all ranks."""
        return len(self.placement)

    @property
    def rows(self) -> tuple[Row, ...]:
        """A view of each rank's row that makes its tasks when they are read."""
        return tuple(Row(cells, self.num_microbatches) for cells in self.cells)

    def order(self, rank: int) -> tuple[Task, ...]:
        """The tasks of a rank in the order in which it runs them.

        Args:
            rank: the row's number.

        Returns:
            The row's tasks without the idle cells.

        Example:
            >>> from funpipe.schedules import OneFOneB
            >>> " ".join(map(str, OneFOneB().table(2, 3).order(0)))
            '0F0 0F1 0B0 0F2 0B1 0B2'
        """
        return tuple(task for task in self.rows[rank] if task is not None)

    def ascends(self, *kinds: Kind) -> bool:
        """Whether each stage runs its tasks of these kinds in ascending order of microbatches.

        `ascends("F")` is what buffers need, which a stage threads through its microbatches; `ascends("B", "W")` is that
        gradients of the weights are accumulated in the order of the microbatches.

        Args:
            *kinds: the kinds, taken together.

        Returns:
            True when each stage's microbatches strictly ascend along its row.

        Example:
            >>> from funpipe.schedules import GPipe
            >>> GPipe().table(2, 4).ascends("B")
            True
        """
        pairs = pair_of(self.cells[is_kind(self.cells, *kinds)])
        by_stage = pairs[np.argsort(pairs // self.num_microbatches, kind="stable")]
        return bool((np.diff(by_stage) > 0).all())

    def as_text(self) -> str:
        """The grid as text, aligned in columns, with the placement above and a legend below; `parse` reads it.

        Returns:
            One line for the placement, one per rank, one for the legend.

        Example:
            >>> from funpipe.schedules import GPipe
            >>> print(GPipe().table(2, 2).as_text().rpartition("legend")[0].rstrip())
            stage -> rank: 0 1; microbatches: 2
            rank 0 | 0F0 0F1 .   .   0B0 0B1
            rank 1 | .   1F0 1F1 1B0 1B1 .
        """
        rows = [[text.IDLE_TEXT if task is None else str(task) for task in row] for row in self.rows]
        return text.write(rows, self.placement, self.num_microbatches)

    @classmethod
    def parse(cls, written: str) -> "Table":
        """Reads what `as_text` writes; the legend may be missing, and a short row is idle at its end.

        Args:
            written: the text.

        Returns:
            The table; `Table.parse(table.as_text()) == table`.

        Raises:
            ScheduleError: a line or a cell is something else, with its rank and slot.

        Example:
            >>> Table.parse("stage -> rank: 0; microbatches: 1\\nrank 0 | 0F0 0B0")
            Table(num_ranks=1, num_stages=1, num_microbatches=1, num_slots=2)
        """
        rows, placement, num_microbatches = text.read(written)
        return cls.from_rows(rows, placement=placement, num_microbatches=num_microbatches)

    @classmethod
    def from_rows(
        cls, rows: Sequence[Sequence[Task | None]], *, placement: Sequence[int], num_microbatches: int
    ) -> "Table":
        """A table written out as rows of tasks.

        Args:
            rows: for each rank its tasks in order, None where it idles; a short row is idle at its end.
            placement: the rank of each stage.
            num_microbatches: how many microbatches a step has.

        Returns:
            The table. Whether it makes sense is asked with `check`.

        Raises:
            ScheduleError: a task's stage or microbatch is out of range, with its rank and slot.

        Example:
            >>> rows = [[Task("F", 0, 0), Task("B", 0, 0)]]
            >>> Table.from_rows(rows, placement=(0,), num_microbatches=1).order(0) == tuple(rows[0])
            True
        """
        longest = max(map(len, rows), default=0)
        require_room(len(rows), longest)
        cells = np.full((len(rows), longest), IDLE, np.int64)
        for rank, row in enumerate(rows):
            for slot, task in enumerate(row):
                if task is not None:
                    require_in_range(task, rank, slot, len(placement), num_microbatches)
                    cells[rank, slot] = pack(task.kind, task.stage, task.microbatch, num_microbatches)
        return cls(cells, tuple(placement), num_microbatches)

    @classmethod
    def from_slots(cls, slots: Mapping[Kind, Any], *, placement: Sequence[int]) -> "Table":
        """A table given by the slot of each task: the form in which a schedule is arithmetic.

        Args:
            slots: for each kind an integer array of shape (num_stages, num_microbatches): the slot of each task.
            placement: the rank of each stage.

        Returns:
            The table, as wide as the last slot in use.

        Raises:
            ScheduleError: two tasks of a rank are in the same slot.

        Example:
            >>> Table.from_slots({"F": [[0, 1]], "B": [[2, 3]]}, placement=(0,)).order(0)[2]
            Task(kind='B', stage=0, microbatch=0)
        """
        arrays: dict[Kind, np.ndarray] = {kind: np.asarray(slot) for kind, slot in slots.items()}
        rank_of_stage = np.asarray(placement)[:, None]
        num_stages, num_microbatches = require_slots(arrays, rank_of_stage)
        stage, microbatch = np.arange(num_stages)[:, None], np.arange(num_microbatches)
        width = 1 + max(int(slot.max()) for slot in arrays.values())
        require_room(max(placement) + 1, width)
        cells = np.full((max(placement) + 1, width), IDLE, np.int64)
        for kind, slot in arrays.items():
            cells[rank_of_stage, slot] = pack(kind, stage, microbatch, num_microbatches)
        require_no_collision(cells, arrays, rank_of_stage)
        return cls(cells, tuple(placement), num_microbatches)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and self._content() == other._content()

    def __hash__(self) -> int:
        return hash(self._content())

    def __repr__(self) -> str:
        return (
            f"Table(num_ranks={self.num_ranks}, num_stages={self.num_stages}, "
            f"num_microbatches={self.num_microbatches}, num_slots={self.num_slots})"
        )

    def _content(self) -> tuple[Any, ...]:
        return self.cells.shape, self.placement, self.num_microbatches, self.cells.tobytes()
