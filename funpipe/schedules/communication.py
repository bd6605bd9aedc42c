"""What it costs to bring a result from one rank to another."""

from dataclasses import dataclass
from typing import final

import numpy as np

from funpipe._errors import ScheduleError
from funpipe.schedules.keys import by_key
from funpipe.schedules.numbers import Numbers, broadcast, each
from funpipe.schedules.table import Table


@final
@dataclass(frozen=True, eq=False)
class Communication:
    """The messages between the stages of a table, for `simulate`.

    A message crosses a boundary between two stages: boundary s lies between stages s and s + 1, and what F leaves
    crosses it forward, what B or I leaves, backward. It takes `latency + bytes / bandwidth`. Where both stages are on
    one rank there is no message, and nothing to pay.

    Overlapped with the tasks, a message keeps no rank busy. It leaves when its task has ended and what the same rank
    has sent to the same other one before has left: bytes queue, latency does not. Not overlapped, it keeps two ranks
    busy for its time: the sender after its task, the receiver before its own, from the end of the sender's task at
    the earliest.

    Args:
        latency: the time until the first byte is there, in the unit of the tasks' times: one number, or one for each
            boundary, num_stages - 1 of them.
        bytes: what crosses a boundary forward for one microbatch: one number, or one for each boundary.
        bytes_back: the same for the way back; None: as much as forward.
        bandwidth: bytes per unit of time: one number, or one for each boundary; infinite by default.
        overlap: whether ranks run tasks while a message is under way.

    Example:
        >>> from funpipe.schedules import OneFOneB, simulate
        >>> table = OneFOneB().table(num_ranks=2, num_microbatches=4)
        >>> simulate(table, communication=Communication(latency=0.25, bytes=2e6, bandwidth=8e6)).makespan
        17.0
        >>> simulate(table, communication=Communication(bytes=4e6, bandwidth=8e6, overlap=False)).makespan
        19.0
    """

    latency: Numbers = 0.0
    bytes: Numbers = 0.0
    bytes_back: Numbers | None = None
    bandwidth: Numbers = np.inf
    overlap: bool = True


@dataclass(frozen=True)
class Transfers:
    """Communication as arrays by key: of the message that a task's result is, and of the one that it waits for.

    Args:
        overlap: whether ranks run tasks while a message is under way.
        crosses: whether the result goes to another rank.
        channel: where the result queues: there is one from each rank to each that it sends to, numbered from 0.
        wire: how long a message takes its channel, latency left out; 0 where it is not overlapped.
        latency: how long it is under way beyond that; 0 where it is not overlapped.
        send: how long the sender is busy with it; 0 where it is overlapped.
        receive: how long the receiver is busy with the message that its task waits for; 0 where it is overlapped.
    """

    overlap: bool
    crosses: np.ndarray
    channel: np.ndarray
    wire: np.ndarray
    latency: np.ndarray
    send: np.ndarray
    receive: np.ndarray


def transfers(table: Table, communication: Communication) -> Transfers:
    """The messages of a table.

    Raises:
        ScheduleError: a number is negative or not finite, or not one for each boundary; a bandwidth is not positive.
    """
    n = table.num_stages
    far = np.diff(np.array(table.placement)) != 0
    latency = each("latency", communication.latency, n - 1, "boundary") * far
    ways = (communication.bytes, communication.bytes if communication.bytes_back is None else communication.bytes_back)
    bandwidth = _bandwidth(communication.bandwidth, n - 1)
    names = ("bytes", "bytes_back")
    wire = [each(name, way, n - 1, "boundary") * far / bandwidth for name, way in zip(names, ways, strict=True)]
    nothing = np.zeros(4 * n + 1)
    on_wire, under_way = _sent(*wire), _sent(latency, latency)
    total = [latency + time for time in wire]
    blocking = not communication.overlap
    return Transfers(
        overlap=communication.overlap,
        crosses=_sent(far, far),
        channel=_channels(table),
        wire=nothing if blocking else on_wire,
        latency=nothing if blocking else under_way,
        send=_sent(*total) if blocking else nothing,
        receive=_awaited(*total) if blocking else nothing,
    )


def _sent(forward: np.ndarray, back: np.ndarray) -> np.ndarray:
    """By key of the task that sends: F sends over the boundary after its stage, B and I over the one before."""
    none = np.zeros(1, forward.dtype)
    after, before = np.append(forward, none), np.append(none, back)
    return by_key(after, before, before, np.zeros_like(after))


def _awaited(forward: np.ndarray, back: np.ndarray) -> np.ndarray:
    """By key of the task that receives: F over the boundary before its stage, B and I over the one after."""
    none = np.zeros(1, forward.dtype)
    before, after = np.append(none, forward), np.append(back, none)
    return by_key(before, after, after, np.zeros_like(before))


def _channels(table: Table) -> np.ndarray:
    """By key of the task that sends. Who sends nothing has a channel too, to itself, and leaves nothing in it."""
    rank, p = np.array(table.placement), table.num_ranks
    forward, back = rank[:-1] * p + rank[1:], rank[1:] * p + rank[:-1]
    alone = rank * (p + 1)
    after, before = np.append(forward, alone[-1]), np.append(alone[0], back)
    channels = by_key(after, before, before, alone)
    channels[-1] = -1
    return np.unique(channels, return_inverse=True)[1]


def _bandwidth(given: Numbers, count: int) -> np.ndarray:
    numbers = broadcast("bandwidth", given, count, "boundary")
    if np.isnan(numbers).any() or (numbers <= 0).any():
        raise ScheduleError(f"bandwidth={given!r}; pass bytes per unit of time, above 0 (infinite: no time).")
    return numbers
