"""How long a table takes, and how many activations its ranks hold, for given times of the tasks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from funpipe._errors import ScheduleError
from funpipe.schedules.check import check
from funpipe.schedules.codes import IDLE, is_kind, pair_of
from funpipe.schedules.dependencies import dependencies, rounds
from funpipe.schedules.table import Table

Time = float | Sequence[float] | np.ndarray
"""The time of one task, in any unit: one number, or one for each stage."""


@dataclass(frozen=True, eq=False)
class Simulation:
    """What running a table takes; times are in the unit of the times given to `simulate`.

    Args:
        makespan: the time from the first task's start to the last one's end.
        bubble: the makespan minus the work of the busiest rank.
        busy: for each rank the time it works.
        peak_activations: for each rank the most activations it holds at once, in activations of one stage and
            microbatch: an F adds one, the B or W of that stage and microbatch frees it.
        start: float64 in the shape of the table's cells: when the task of each cell starts; NaN where idle.
        end: the same for the ends.
    """

    makespan: float
    bubble: float
    busy: tuple[float, ...]
    peak_activations: tuple[int, ...]
    start: np.ndarray
    end: np.ndarray


def simulate(
    table: Table,
    F: Time = 1.0,
    B: Time | None = None,
    I: Time = 1.0,
    W: Time = 1.0,
    latency: float = 0.0,
) -> Simulation:
    """Runs a table in simulated time: each rank in its row's order, each task as soon as what it needs is there.

    Args:
        table: the table.
        F: the time of one forward of one microbatch on one stage: a number, or one for each stage.
        B: the same of a whole backward; None: I + W.
        I: the same of the gradient of the inputs.
        W: the same of the gradient of the weights.
        latency: the time that a result takes from one rank to another; neither of them is busy in it.

    Returns:
        The times and the peaks.

    Raises:
        ScheduleError: the table does not pass `check`, or a time is negative, not finite, or not one for each stage.

    Example:
        >>> from funpipe.schedules import OneFOneB
        >>> sim = simulate(OneFOneB().table(num_ranks=2, num_microbatches=4), F=1.0, B=2.0)
        >>> sim.makespan, sim.bubble, sim.busy
        (15.0, 3.0, (12.0, 12.0))
    """
    check(table)
    cost = _cost_of_cells(table, F, B, I, W)
    start, end = _times(table, cost, _one("latency", latency, 1).item())
    busy = cost.sum(axis=1)
    makespan = float(np.nanmax(end))
    return Simulation(
        makespan=makespan,
        bubble=makespan - float(busy.max()),
        busy=tuple(busy.tolist()),
        peak_activations=_peaks(table),
        start=start,
        end=end,
    )


def _times(table: Table, cost: np.ndarray, latency: float) -> tuple[np.ndarray, np.ndarray]:
    """The start and end of each cell's task."""
    needs = dependencies(table)
    delay = latency * _comes_from_another_rank(table, needs.other)
    there = np.zeros(4 * table.num_stages * table.num_microbatches + 1)  # when each result is there, by code
    clock = np.zeros(table.num_ranks)
    start, end = np.full(table.cells.shape, np.nan), np.full(table.cells.shape, np.nan)
    for ranks, slots in rounds(table, needs):
        at = ranks, slots
        begin = np.maximum(clock[ranks], there[needs.own[at]])
        begin = np.maximum(begin, there[needs.other[at]] + delay[at])
        start[at] = begin
        end[at] = clock[ranks] = there[needs.result[at]] = begin + cost[at]
        there[IDLE] = 0.0  # an idle cell leaves no result, and what waits for nothing can start at once
    idle = table.cells == IDLE
    start[idle] = end[idle] = np.nan
    return start, end


def _comes_from_another_rank(table: Table, result: np.ndarray) -> np.ndarray:
    rank_of_pair = np.repeat(np.array(table.placement, np.int32), table.num_microbatches)
    return (rank_of_pair[pair_of(result)] != np.arange(table.num_ranks)[:, None]) & (result != IDLE)


def _peaks(table: Table) -> tuple[int, ...]:
    # A rank runs one task at a time, so what it holds depends on its row's order alone and not on any time.
    change = is_kind(table.cells, "F").astype(np.int32) - is_kind(table.cells, "B", "W")
    return tuple(np.cumsum(change, axis=1).max(axis=1).tolist())


def _cost_of_cells(table: Table, F: Time, B: Time | None, I: Time, W: Time) -> np.ndarray:
    """The time of each cell; 0 where idle."""
    n = table.num_stages
    f, i, w = _one("F", F, n), _one("I", I, n), _one("W", W, n)
    b = i + w if B is None else _one("B", B, n)
    by_stage_and_kind = np.stack([f, b, i, w], axis=1)
    stage = pair_of(table.cells) // table.num_microbatches
    return np.where(table.cells == IDLE, 0.0, by_stage_and_kind[stage, table.cells & 3])


def _one(name: str, time: Time, num_stages: int) -> np.ndarray:
    """A time for each stage."""
    times = np.asarray(time, dtype=np.float64)
    if times.shape not in ((), (num_stages,)):
        raise ScheduleError(f"{name} has shape {times.shape}; pass one number, or {num_stages}, one for each stage.")
    if not np.isfinite(times).all() or (times < 0).any():
        raise ScheduleError(f"{name}={time!r}; pass times that are finite and not negative.")
    return np.broadcast_to(times, (num_stages,))
