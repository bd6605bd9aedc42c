"""What the tasks of a rank take and give back while it runs its row."""

from dataclasses import dataclass
from typing import final

import numpy as np

from funpipe.schedules.keys import by_key, keys
from funpipe.schedules.numbers import Numbers, each
from funpipe.schedules.table import Table

CELLS_AT_ONCE = 2**16
"""Of how many cells the amounts are worked out together: few calls for a small table, little memory for a large one."""


@final
@dataclass(frozen=True, eq=False)
class Memory:
    """What the stages of a table hold, for `simulate`; each is one number, or one for each stage, in any unit.

    A task takes what it adds when it starts, and gives back what it frees when it ends. In a table of F tasks alone, an
    inference, F frees what it has added.

    Args:
        activations: what F leaves for the backward of its stage and microbatch.
        for_weights: what I leaves for W, of that and of its own; None: as much as F has left. B and W leave nothing.
        static: what is there all the time: parameters, gradients, the optimizer's state.
        working: what a task needs beyond all that while it runs.

    Example:
        >>> from funpipe.schedules import OneFOneB, simulate
        >>> memory = Memory(activations=2e9, static=[7e9, 6e9])
        >>> simulate(OneFOneB().table(num_ranks=2, num_microbatches=4), memory=memory).memory.peak
        (11000000000.0, 8000000000.0)
    """

    activations: Numbers = 1.0
    for_weights: Numbers | None = None
    static: Numbers = 0.0
    working: Numbers = 0.0


@dataclass(frozen=True)
class Changes:
    """What tasks add when they start and free when they end, by key."""

    adds: np.ndarray
    frees: np.ndarray


def changes(table: Table, memory: Memory) -> Changes:
    """What the tasks of a table add and free.

    Raises:
        ScheduleError: a number is negative or not finite, or not one for each stage.
    """
    n = table.num_stages
    held = each("activations", memory.activations, n, "stage")
    kept = held if memory.for_weights is None else each("for_weights", memory.for_weights, n, "stage")
    working = each("working", memory.working, n, "stage")
    none = np.zeros(n)
    adds = by_key(held, none, np.maximum(kept - held, 0.0), none)
    frees = by_key(none if table.has_backwards else held, held, np.maximum(held - kept, 0.0), kept)
    at_work = by_key(working, working, working, working)
    return Changes(adds + at_work, frees + at_work)


def amounts(table: Table, changes: Changes, ranks: slice) -> tuple[np.ndarray, np.ndarray]:
    """What some ranks hold beyond their static memory: from each cell's start, and from its end on.

    It depends on the order of each row alone. Of two cells that run together the first takes all at its start, and the
    second gives all back at its end.
    """
    key = keys(table.cells[ranks], table.num_microbatches)
    adds, frees = changes.adds[key], changes.frees[key]
    first = table.joined[ranks]
    if first.any():
        second = np.roll(first, 1, axis=1)
        adds[first] += adds[second]
        frees[second] += frees[first]
        adds[second] = frees[first] = 0.0
    after = np.cumsum(adds - frees, axis=1)
    return after + frees, after


def peaks(table: Table, changes: Changes) -> np.ndarray:
    """The most that each rank holds beyond its static memory, float64, some ranks at a time."""
    some = max(1, CELLS_AT_ONCE // table.num_slots)
    blocks = (slice(rank, rank + some) for rank in range(0, table.num_ranks, some))
    return np.concatenate([amounts(table, changes, ranks)[0].max(axis=1) for ranks in blocks])


def peak_activations(table: Table) -> tuple[int, ...]:
    """For each rank the most activations at once: an F adds one, the B or W of its stage and microbatch frees it."""
    return tuple(map(int, peaks(table, changes(table, Memory()))))
