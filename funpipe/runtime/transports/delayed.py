"""Collectives that arrive late, as through a slow network: to measure what waits cost, and what hides them.

    rank 0    start ────────────────┐
    rank 1            start ────────┤ the last of all starts
                                    ├──── lag ────┤ here at the earliest every wait ends

The lag passes by the clock, whether a rank computes meanwhile or not, and takes none of its time. All ranks must share
a clock, so they are processes of one host.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch

from funpipe.backends.transport import Collective, Group, Pending
from funpipe.runtime.transports.arriving import Arriving


class Lagging(Protocol):
    """A transport whose collectives can be late."""

    lag: float

    def all_gather_start(self, tensor: torch.Tensor, group: Group) -> Pending:
        """See `Transport.all_gather_start`."""
        ...


@contextmanager
def delayed(transport: Lagging, seconds: float) -> Iterator[None]:
    """While open, collectives that start arrive so much later; all ranks open it alike.

    Args:
        transport: this rank's.
        seconds: from when all ranks have started a collective.

    Example:
        >>> from funpipe.runtime import Distributed, mesh
        >>> alone = mesh(pp=1, device="cpu")
        >>> transport = Distributed(alone)
        >>> with delayed(transport, 0.01):
        ...     transport.lag
        0.01
        >>> transport.lag
        0.0
        >>> alone.close()
    """
    before, transport.lag = transport.lag, seconds
    try:
        yield
    finally:
        transport.lag = before


def late(collective: Collective, transport: Lagging, group: Group) -> Arriving:
    """A collective that was just started, to arrive late.

    Args:
        collective: as it would arrive.
        transport: carries the times of the starts.
        group: who takes part.
    """
    lag, starts = transport.lag, transport.all_gather_start(torch.tensor([time.monotonic_ns()]), group)

    def finish() -> None:
        due = max(int(start) for start in starts.wait()) * 1e-9 + lag
        time.sleep(max(0.0, due - time.monotonic()))
        collective.wait()

    return Arriving(collective.results, finish)
