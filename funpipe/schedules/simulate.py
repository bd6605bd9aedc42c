"""How long a table takes, and what its ranks hold, for given times, messages and memory."""

import numpy as np

from funpipe._errors import FunpipeTypeError, ScheduleError
from funpipe.schedules.check import checked
from funpipe.schedules.clock import Run, run
from funpipe.schedules.communication import Communication, Transfers, transfers
from funpipe.schedules.held import held
from funpipe.schedules.idle import idle
from funpipe.schedules.keys import by_key
from funpipe.schedules.lanes import Lanes, lanes
from funpipe.schedules.memory import Memory, peak_activations
from funpipe.schedules.numbers import Numbers, each
from funpipe.schedules.simulation import Simulation
from funpipe.schedules.table import Table

Time = Numbers
"""The time of one task, in any unit: one number, or one for each stage."""


def simulate(
    table: Table,
    F: Time = 1.0,
    B: Time | None = None,
    I: Time = 1.0,
    W: Time = 1.0,
    latency: Numbers = 0.0,
    *,
    FB: Numbers | None = None,
    communication: Communication | None = None,
    memory: Memory | None = None,
) -> Simulation:
    """Runs a table in simulated time: each rank in its row's order, each task as soon as what it needs is there.

    Args:
        table: the table.
        F: the time of one forward of one microbatch on one stage: a number, or one for each stage.
        B: the same of a whole backward; None: I + W.
        I: the same of the gradient of the inputs.
        W: the same of the gradient of the weights.
        latency: short for `communication=Communication(latency=latency)`.
        FB: the time of a forward and a backward that run together: a number, or one for each rank; None: the sum of
            the two.
        communication: what messages between ranks cost; None: nothing beyond the latency.
        memory: what stages hold; None: `Memory()`, one unit for each activation.

    Returns:
        The times, why ranks are idle, and what they hold.

    Raises:
        ScheduleError: the table does not pass `check`; a number is negative, not finite, or not one for each stage
            (boundary, rank); or both `latency` and `communication` are given.
        FunpipeTypeError: the table, `communication` or `memory` is something else.

    Example:
        >>> from funpipe.schedules import OneFOneB
        >>> sim = simulate(OneFOneB().table(num_ranks=2, num_microbatches=4), F=1.0, B=2.0)
        >>> sim.makespan, sim.bubble, sim.busy
        (15.0, 3.0, (12.0, 12.0))
    """
    needs = checked(table)
    _require_type("communication", communication, Communication)
    _require_type("memory", memory, Memory)
    messages = transfers(table, _communication(latency, communication))
    joined = None if FB is None else each("FB", FB, table.num_ranks, "rank")
    cells = lanes(table, needs, messages, _costs(table.num_stages, F, B, I, W), joined)
    return _simulation(table, cells, messages, run(table, needs, cells, messages), memory or Memory())


def _require_type(name: str, given: object, wanted: type) -> None:
    if given is not None and not isinstance(given, wanted):
        what, kind = type(given).__name__, wanted.__name__
        raise FunpipeTypeError(f"{name} is a {what}; pass a {kind}, {name}=fp.schedules.{kind}(...).")


def _communication(latency: Numbers, communication: Communication | None) -> Communication:
    if communication is None:
        return Communication(latency=latency)
    if np.any(latency):
        raise ScheduleError(f"latency={latency!r} beside {communication!r}; pass it as Communication(latency=...).")
    return communication


def _costs(num_stages: int, F: Time, B: Time | None, I: Time, W: Time) -> np.ndarray:
    """The time of one task by its key."""
    f, i, w = (each(name, time, num_stages, "stage") for name, time in (("F", F), ("I", I), ("W", W)))
    return by_key(f, i + w if B is None else each("B", B, num_stages, "stage"), i, w)


def _simulation(table: Table, cells: Lanes, messages: Transfers, times: Run, memory: Memory) -> Simulation:
    busy = cells.cost.reshape(-1, table.num_ranks).sum(axis=0)
    makespan = float(times.end.max())
    nothing = cells.key < 0
    start, end = (_grid(table, time, nothing) for time in (times.start, times.end))
    return Simulation(
        table=table,
        makespan=makespan,
        bubble=makespan - float(busy.max()),
        busy=tuple(busy.tolist()),
        idle=idle(cells, times, messages, makespan),
        peak_activations=peak_activations(table),
        memory=held(table, memory, start, end),
        start=start,
        end=end,
        arrival=_grid(table, times.there[:-1] + messages.send[cells.key], ~messages.crosses[cells.key]),
    )


def _grid(table: Table, numbers: np.ndarray, nothing: np.ndarray) -> np.ndarray:
    """Numbers of all cells in the shape of the table, NaN where there is nothing."""
    return np.where(nothing, np.nan, numbers).reshape(-1, table.num_ranks).T
