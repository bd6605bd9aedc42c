"""What each rank of a simulated table holds, and when."""

from dataclasses import dataclass
from typing import final

import numpy as np

from funpipe._errors import ScheduleError
from funpipe.schedules.codes import IDLE
from funpipe.schedules.memory import Changes, Memory, amounts, changes, peaks
from funpipe.schedules.numbers import each
from funpipe.schedules.table import Table


@final
@dataclass(frozen=True, eq=False, repr=False)
class Held:
    """What each rank holds, in the unit of the `Memory` given to `simulate`.

    Args:
        static: for each rank what is there all the time.
        peak: for each rank the most it holds at once, `static` included.
    """

    static: tuple[float, ...]
    peak: tuple[float, ...]
    _table: Table
    _changes: Changes
    _start: np.ndarray
    _end: np.ndarray

    def curve(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """What a rank holds at each time.

        Args:
            rank: its number.

        Returns:
            Times and amounts, float64 of one length: from each time on the amount beside it is held. Times ascend; of
            equal ones the last counts. They begin with time 0 and end with the rank's last task.

        Raises:
            ScheduleError: there is no such rank.

        Example:
            >>> from funpipe.schedules import OneFOneB, simulate
            >>> times, amounts = simulate(OneFOneB().table(num_ranks=2, num_microbatches=2)).memory.curve(1)
            >>> times.tolist()
            [0.0, 1.0, 2.0, 2.0, 4.0, 4.0, 5.0, 5.0, 7.0]
            >>> amounts.tolist()
            [0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0]
        """
        if not 0 <= rank < len(self.peak):
            raise ScheduleError(f"there is no rank {rank}; use one from 0 to {len(self.peak) - 1}.")
        rises, rests = amounts(self._table, self._changes, slice(rank, rank + 1))
        tasks, first = self._table.cells[rank] != IDLE, self._table.joined[rank]
        starts, ends = tasks & ~np.roll(first, 1), tasks & ~first
        times = np.stack([self._start[rank, starts], self._end[rank, ends]], axis=1)
        rises = np.stack([rises[0, starts], rests[0, ends]], axis=1)
        return np.append(0.0, times), self.static[rank] + np.append(0.0, rises)

    def __repr__(self) -> str:
        return f"Held(static={self.static}, peak={self.peak})"


def held(table: Table, memory: Memory, start: np.ndarray, end: np.ndarray) -> Held:
    """What each rank of a checked table holds."""
    static = each("static", memory.static, table.num_stages, "stage")
    by_rank = np.bincount(table.placement, weights=static, minlength=table.num_ranks)
    change = changes(table, memory)
    peak = tuple((by_rank + peaks(table, change)).tolist())
    return Held(tuple(by_rank.tolist()), peak, table, change, start, end)
