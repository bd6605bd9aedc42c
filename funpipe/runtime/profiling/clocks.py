"""The ranks' clocks, compared.

Processes of one host read the same clock: `time.perf_counter` is CLOCK_MONOTONIC on Linux. Hosts have clocks of their
own, whose difference is bounded by messages (Cristian, "Probabilistic clock synchronization", 1989): a number that a
rank tells between two that rank 0 tells was read between them.
"""

from collections.abc import Sequence
from time import perf_counter_ns

import torch

from funpipe.backends.timed import Clock
from funpipe.runtime.together import breaking
from funpipe.runtime.transports import Distributed

_ROUNDS = 12


def clock_of(device: torch.device) -> Clock:
    """A clock in nanoseconds for what runs on a device.

    A GPU's is read once it has done what the step's stream holds; transfers, which have streams of their own, go on.

    Example:
        >>> clock = clock_of(torch.device("cpu"))
        >>> clock() <= clock()
        True
    """
    if device.type != "cuda":
        return perf_counter_ns

    def read() -> int:
        torch.cuda.current_stream(device).synchronize()
        return perf_counter_ns()

    return read


def told(transport: Distributed | None) -> list[list[int]]:
    """Every rank's clock, several times: rounds of one number from each, no round before the last one is complete.

    Args:
        transport: to the other ranks, which all must call this; None if there are none.
    """
    if transport is None or transport.alone:
        return [[perf_counter_ns()]]
    rounds = []
    with breaking(transport):
        for _ in range(_ROUNDS):
            transport.tell_number(perf_counter_ns())
            rounds.append(transport.numbers_told())
    return rounds


def offsets(rounds: Sequence[Sequence[int]]) -> list[int]:
    """What must be added to each rank's clock to have that of rank 0.

    Args:
        rounds: from `told`.

    Returns:
        For each rank nanoseconds: 0 where the rounds allow it, as on one host; else the middle of what they allow.

    Example:
        >>> offsets([[0, 1005], [10, 1015], [20, 1025]])
        [0, -1005]
        >>> offsets([[0, 5], [10, 15], [20, 25]])
        [0, 0]
    """
    return [
        0,
        *(_offset([row[0] for row in rounds], [row[rank] for row in rounds]) for rank in range(1, len(rounds[0]))),
    ]


def _offset(first: Sequence[int], other: Sequence[int]) -> int:
    """Rank 0 told one number before, and one after, each of another rank's: the tightest bounds."""
    lowest = max(before - own for before, own in zip(first[:-1], other[1:], strict=True))
    highest = min(after - own for after, own in zip(first[1:], other[:-1], strict=True))
    return 0 if lowest <= 0 <= highest else (lowest + highest) // 2
