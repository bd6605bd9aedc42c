"""A schedule as data: for each rank, what it runs in each slot of time.

A slot is a column of the drawn grid, not a duration: how long things take is given to `simulate`. What a table means is
the order in each row; where its idle cells are is only how it is drawn. Two tasks that run together stand in two
adjacent slots.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from funpipe.schedules import csv, text
from funpipe.schedules.codes import is_kind, pair_of
from funpipe.schedules.constraints import integer, ranks_of_stages
from funpipe.schedules.drawn import Drawn
from funpipe.schedules.requirements import require_cells, require_joined, require_sizes
from funpipe.schedules.row import Cell, Row
from funpipe.schedules.slots import grid_of, grid_of_rows
from funpipe.schedules.task import Kind, Overlap, Task

NOWHERE = np.zeros((), bool)
"""What `joined` of a table without overlaps is made of: one value for all cells."""


@dataclass(frozen=True, eq=False, repr=False)
class Table(Drawn):
    """A schedule's table: a grid of tasks, one row per rank, and the rank of each stage.

    Tables are made by a schedule's `table`, by `Table.from_rows`, `Table.from_slots` or `Table.parse`. They are equal
    when all their cells, placements and numbers of microbatches are.

    Args:
        cells: integers, shape (num_ranks, num_slots): -1 for idle, else
            `(stage * num_microbatches + microbatch) * 4 + kind`, with kind 0 to 3 for F, B, I, W. Copied; read-only.
        placement: the rank of each stage.
        num_microbatches: how many microbatches a step has.
        joined: booleans of the shape of `cells`: True where the forward in a cell and the backward in the cell to its
            right run together; by default nowhere. Copied; read-only.

    Raises:
        ScheduleError: a cell is no task of this table, a stage's rank has no row, or two cells cannot run together.

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
    joined: np.ndarray = field(default_factory=lambda: NOWHERE)

    def __post_init__(self) -> None:
        cells = np.asarray(self.cells)
        placement = ranks_of_stages(self.placement, "placement", "Table")
        num_microbatches = integer(self.num_microbatches, "num_microbatches", "Table", least=1)
        require_sizes(cells, placement, num_microbatches)
        require_cells(cells, 4 * len(placement) * num_microbatches)
        cells = cells.astype(np.int32)
        cells.setflags(write=False)
        object.__setattr__(self, "joined", _joined(self.joined, cells))
        object.__setattr__(self, "cells", cells)
        object.__setattr__(self, "placement", placement)
        object.__setattr__(self, "num_microbatches", num_microbatches)

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
    def has_overlaps(self) -> bool:
        """Whether any two tasks run together."""
        return bool(self.joined.any())

    @property
    def has_backwards(self) -> bool:
        """Whether there is any B, I or W; a table without is an inference."""
        return bool(is_kind(self.cells, "B", "I", "W").any())

    @property
    def rows(self) -> tuple[Row, ...]:
        """A view of each rank's row that makes its tasks when they are read.

        Two tasks that run together read as their `Overlap` in both of their slots.
        """
        slots = range(self.num_slots)
        return tuple(Row(*row, self.num_microbatches, slots) for row in zip(self.cells, self.joined, strict=True))

    def order(self, rank: int) -> tuple[Task | Overlap, ...]:
        """The tasks of a rank in the order in which it runs them.

        Args:
            rank: the row's number.

        Returns:
            The row's tasks without the idle cells; two that run together are one `Overlap`.

        Example:
            >>> from funpipe.schedules import OneFOneB
            >>> " ".join(map(str, OneFOneB().table(2, 3).order(0)))
            '0F0 0F1 0B0 0F2 0B1 0B2'
        """
        return self.rows[rank].order()

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
        return text.write(self.rows, self.placement, self.num_microbatches)

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

    def as_csv(self, *, communication: bool = False) -> str:
        """The grid as CSV that torch.distributed.pipelining reads: one row per rank, one cell per task.

        Args:
            communication: also write what its runtime otherwise adds by itself (sends, receives, parameters that are
                gathered and let go, gradients that are reduced), and no idle cells: what it calls `compute_comms`.

        Returns:
            The text. Two tasks that run together are one cell of it.

        Raises:
            ScheduleError: with communication, if the ranks wait for each other.

        Example:
            >>> from funpipe.schedules import GPipe
            >>> print(GPipe().table(2, 2).as_csv(), end="")
            0F0,0F1,,,0B0,0B1
            ,1F0,1F1,1B0,1B1,
        """
        if communication:
            return csv.write_with_communication(self.rows, self.placement)
        return csv.write(self.rows)

    def to_csv(self, path: str | os.PathLike[str], *, communication: bool = False) -> None:
        """Writes `as_csv` to a file.

        Args:
            path: of the file, which is overwritten.
            communication: as for `as_csv`.
        """
        Path(path).write_text(self.as_csv(communication=communication))

    @classmethod
    def parse_csv(cls, written: str, *, placement: Sequence[int] | None = None) -> "Table":
        """Reads what `as_csv` or torch.distributed.pipelining writes.

        The number of microbatches is the largest one's, plus one. Communication is checked against the tasks and left
        out: a program places its own.

        Args:
            written: the text.
            placement: the rank of each stage; None: each stage is on the rank whose row has its tasks.

        Returns:
            The table; `Table.parse_csv(table.as_csv()) == table`. Whether it makes sense is asked with `check`.

        Raises:
            ScheduleError: a cell is something else, or communication does not fit the tasks, with row and column.

        Example:
            >>> print(*Table.parse_csv("0F0,0SEND_F0,0RECV_B0,0B0\\n1RECV_F0,1F0,1B0,1SEND_B0").order(1))
            1F0 1B0
        """
        rows, stage_to_rank, num_microbatches = csv.read(written, placement)
        return cls.from_rows(rows, placement=stage_to_rank, num_microbatches=num_microbatches)

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str], *, placement: Sequence[int] | None = None) -> "Table":
        """Reads a CSV file as `parse_csv` reads text.

        Args:
            path: of the file.
            placement: as for `parse_csv`.

        Returns:
            The table.

        Raises:
            ScheduleError: as `parse_csv`, with the file's name; or it is no text file.
            OSError: it cannot be read.
        """
        rows, stage_to_rank, num_microbatches = csv.read(csv.read_file(path), placement, os.fspath(path))
        return cls.from_rows(rows, placement=stage_to_rank, num_microbatches=num_microbatches)

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[Cell]], *, placement: Sequence[int], num_microbatches: int) -> "Table":
        """A table written out as rows of tasks.

        Args:
            rows: for each rank its tasks in order, None where it idles; a short row is idle at its end. An `Overlap`
                takes two slots; written twice in a row, as `rows` reads, it is still one.
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
        cells, joined = grid_of_rows(rows, len(placement), num_microbatches)
        return cls(cells, tuple(placement), num_microbatches, joined)

    @classmethod
    def from_slots(
        cls,
        slots: Mapping[Kind, Any],
        *,
        placement: Sequence[int],
        where: Mapping[Kind, Any] | None = None,
        joined: Any = False,
    ) -> "Table":
        """A table given by the slot of each task: the form in which a schedule is arithmetic.

        Args:
            slots: for each kind an integer array of shape (num_stages, num_microbatches): the slot of each task.
            placement: the rank of each stage.
            where: for kinds that not every stage and microbatch has, booleans of the same shape: which have one.
            joined: booleans of the same shape: the F that run together with the task in the slot to their right.

        Returns:
            The table, as wide as the last slot in use.

        Raises:
            ScheduleError: two tasks of a rank are in the same slot, or two tasks cannot run together.

        Example:
            >>> Table.from_slots({"F": [[0, 1]], "B": [[2, 3]]}, placement=(0,)).order(0)[2]
            Task(kind='B', stage=0, microbatch=0)
        """
        ranks = ranks_of_stages(placement, "placement", "Table")
        cells, pairs, num_microbatches = grid_of(slots, np.array(ranks, np.int64)[:, None], where or {}, joined)
        return cls(cells, ranks, num_microbatches, pairs)

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
        joined = self.joined.tobytes() if self.has_overlaps else b""
        return self.cells.shape, self.placement, self.num_microbatches, self.cells.tobytes(), joined


def _joined(joined: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """The mark of each cell; where there is none, one value stands for all."""
    if not np.any(joined):
        return np.broadcast_to(NOWHERE, cells.shape)
    joined = np.array(joined)
    require_joined(joined, cells)
    joined.setflags(write=False)
    return joined
