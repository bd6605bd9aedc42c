"""Pictures of what is planned: tables, where a slot is a unit of time, and simulations."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from funpipe.display.boxes import Box, BoxKind, Curve, Picture
from funpipe.display.window import Window, inside, note
from funpipe.schedules import Overlap, Simulation, Table, Task
from funpipe.schedules.codes import IDLE


def of_table(table: Table, window: Window) -> Picture:
    """A table as it is drawn: each cell one slot long, two tasks that run together two."""
    rows = window.rows(table.num_ranks)
    slots = np.broadcast_to(np.arange(table.num_slots, dtype=np.float64), (len(rows), table.num_slots))
    start = np.where(table.cells[rows] == IDLE, np.nan, slots)
    return _Planned(table, rows, start, start + 1 + table.joined[rows], float(table.num_slots)).picture(window, "slot")


def of_simulation(simulation: Simulation, window: Window) -> Picture:
    """A simulation: tasks when they run, messages on their way beside them, and the memory of each rank."""
    rows = window.rows(simulation.table.num_ranks)
    times = simulation.start[rows], simulation.end[rows]
    found = _Planned(simulation.table, rows, *times, simulation.makespan).picture(window, "time")
    span = found.begin, found.end
    sends = [box for row, rank in enumerate(rows) for box in _messages(simulation, row, rank, span)]
    curves = tuple(Curve(row, *simulation.memory.curve(rank)) for row, rank in enumerate(rows))
    return replace(found, boxes=(*found.boxes, *sends), curves=curves)


@dataclass(frozen=True)
class _Planned:
    """Some ranks of a table, and when their tasks run.

    Args:
        table: the table.
        rows: the ranks.
        start: float64, shape (ranks, slots); NaN where idle.
        end: the same.
        last: when the last task of all ranks ends.
    """

    table: Table
    rows: list[int]
    start: np.ndarray
    end: np.ndarray
    last: float

    def picture(self, window: Window, unit: str) -> Picture:
        """What a window shows of them."""
        span = window.span(self.start, self.last)
        boxes = [box for row in range(len(self.rows)) for box in self._tasks(row, span)]
        left_out = note(self.rows, self.table.num_ranks, span, self.last)
        return Picture(tuple(f"rank {rank}" for rank in self.rows), tuple(boxes), *span, unit, note=left_out)

    def _tasks(self, row: int, span: tuple[float, float]) -> Iterator[Box]:
        short = len(set(self.table.placement)) == self.table.num_stages
        rank = self.rows[row]
        cells, second = self.table.rows[rank], np.append(False, self.table.joined[rank, :-1])
        for slot in np.flatnonzero(inside(self.start[row], self.end[row], *span) & ~second):
            cell, begin, stop = cells[int(slot)], float(self.start[row, slot]), float(self.end[row, slot])
            tasks = () if cell is None else tuple(cell) if isinstance(cell, Overlap) else (cell,)
            kinds: tuple[BoxKind, ...] = tuple(task.kind for task in tasks)
            labels = tuple(label(task, short) for task in tasks)
            yield Box(row, max(begin, span[0]), min(stop, span[1]), kinds, labels, f"{cell}: {begin:g} to {stop:g}")


def label(task: Task, short: bool) -> str:
    """A task in its box; `short` where the row says which stage it is."""
    return f"{task.kind}{task.microbatch}" if short else str(task)


def _messages(simulation: Simulation, row: int, rank: int, span: tuple[float, float]) -> Iterator[Box]:
    """From the end of each task to the arrival of its result, where that takes time."""
    leaves, arrives = simulation.end[rank], simulation.arrival[rank]
    cells = simulation.table.rows[rank]
    for slot in np.flatnonzero(inside(leaves, arrives, *span) & (arrives > leaves)):
        begin, stop = float(leaves[slot]), float(arrives[slot])
        title = f"result of {cells[int(slot)]} on its way: {begin:g} to {stop:g}"
        yield Box(row, max(begin, span[0]), min(stop, span[1]), ("communication",), ("",), title, aside=True)
