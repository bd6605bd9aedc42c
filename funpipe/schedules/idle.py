"""Why a rank does not work, and for how long."""

from dataclasses import dataclass
from typing import final

import numpy as np

from funpipe.schedules.clock import Run
from funpipe.schedules.communication import Transfers
from funpipe.schedules.lanes import Lanes


@final
@dataclass(frozen=True)
class Idle:
    """For each rank the time in which it runs no task, by cause; the causes add up to the makespan minus `busy`.

    Args:
        fill: until it has what its first task waits for: the pipeline fills.
        input: between its tasks, until another rank has computed what the next one waits for.
        communication: between its tasks, from when that is computed until it has arrived; and, where communication is
            not overlapped, all the time for which sending and receiving keep the rank busy.
        drain: after its last task and what it sends: the pipeline empties.
    """

    fill: tuple[float, ...]
    input: tuple[float, ...]
    communication: tuple[float, ...]
    drain: tuple[float, ...]

    @property
    def total(self) -> tuple[float, ...]:
        """The sum of the causes for each rank."""
        return tuple(map(sum, zip(self.fill, self.input, self.communication, self.drain, strict=True)))


def idle(lanes: Lanes, run: Run, transfers: Transfers, makespan: float) -> Idle:
    """The idle times of a run, by cause."""
    p = lanes.num_ranks
    free = np.append(np.zeros(p), run.clock[:-p])  # when the rank of each cell is done with the cell before
    cells = np.flatnonzero(run.begin > free)
    free, wait = free[cells], run.begin[cells] - free[cells]
    computing = np.clip(run.end[_awaited(lanes, run, cells)] - free, 0.0, wait)
    filling = cells == _first_cells(lanes)[cells % p]
    exchange = (lanes.receive + transfers.send[lanes.key]).reshape(-1, p).sum(axis=0)

    def of_rank(times: np.ndarray) -> np.ndarray:
        return np.bincount(cells % p, weights=times, minlength=p)

    return Idle(
        fill=tuple(of_rank(wait * filling).tolist()),
        input=tuple(of_rank(computing * ~filling).tolist()),
        communication=tuple((of_rank((wait - computing) * ~filling) + exchange).tolist()),
        drain=tuple((makespan - run.clock[-p:]).tolist()),
    )


def _first_cells(lanes: Lanes) -> np.ndarray:
    """The first cell of each rank that holds a task."""
    p = lanes.num_ranks
    return (lanes.key >= 0).reshape(-1, p).argmax(axis=0) * p + np.arange(p)


def _awaited(lanes: Lanes, run: Run, cells: np.ndarray) -> np.ndarray:
    """For cells that wait: the cell whose result comes last."""
    source, beside = lanes.source[cells], lanes.beside[cells]
    return np.where(run.there[source] >= run.there[beside], source, beside)
