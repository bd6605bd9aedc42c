"""What `simulate` gives."""

from dataclasses import dataclass
from typing import final

import numpy as np

from funpipe.schedules.drawn import Drawn
from funpipe.schedules.held import Held
from funpipe.schedules.idle import Idle
from funpipe.schedules.table import Table

RANKS_SHOWN = 16


@final
@dataclass(frozen=True, eq=False, repr=False)
class Simulation(Drawn):
    """What running a table takes; times are in the unit of the times given to `simulate`.

    Args:
        table: the table.
        makespan: the time from the first task's start to the last one's end.
        bubble: the makespan minus the work of the busiest rank.
        busy: for each rank the time it runs tasks.
        idle: for each rank the time it does not, by cause.
        peak_activations: for each rank the most activations it holds at once, in activations of one stage and
            microbatch: an F adds one, the B or W of that stage and microbatch frees it.
        memory: for each rank its memory's peak and curve, in the unit of the memory given to `simulate`.
        start: float64 in the shape of the table's cells: when the task of each cell starts; NaN where idle. Two tasks
            that run together start and end together.
        end: the same for the ends.
        arrival: the same for when a task's result is on the other rank that needs it; NaN where no other rank does.
    """

    table: Table
    makespan: float
    bubble: float
    busy: tuple[float, ...]
    idle: Idle
    peak_activations: tuple[int, ...]
    memory: Held
    start: np.ndarray
    end: np.ndarray
    arrival: np.ndarray

    def as_text(self) -> str:
        """The makespan and the bubble, and for each rank its work, its idle time by cause, and its peak memory.

        Returns:
            A line for the whole, one of headings, and one for each of the first 16 ranks.

        Example:
            >>> from funpipe.schedules import OneFOneB, simulate
            >>> print(simulate(OneFOneB().table(num_ranks=2, num_microbatches=4), latency=0.25).as_text())
            makespan 16, bubble 4 (25.0 %)
            rank  busy  fill  input  communication  drain  activations  memory
               0    12     0   3.25           0.75      0            2       2
               1    12  1.25   0.25           0.25   2.25            1       1
        """
        share = 100 * self.bubble / self.makespan if self.makespan else 0.0
        head = f"makespan {self.makespan:.6g}, bubble {self.bubble:.6g} ({share:.1f} %)"
        rows = [("rank", "busy", "fill", "input", "communication", "drain", "activations", "memory")]
        rows += [self._row(rank) for rank in range(min(self.table.num_ranks, RANKS_SHOWN))]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
        more = self.table.num_ranks - RANKS_SHOWN
        return "\n".join([head, *lines, *([f"and {more} more ranks"] if more > 0 else [])])

    def __repr__(self) -> str:
        return f"Simulation({self.table!r}, makespan={self.makespan:.6g}, bubble={self.bubble:.6g})"

    def _row(self, rank: int) -> tuple[str, ...]:
        idle = self.idle
        times = (self.busy, idle.fill, idle.input, idle.communication, idle.drain)
        numbers = (*times, self.peak_activations, self.memory.peak)
        return str(rank), *(f"{number[rank]:.6g}" for number in numbers)
