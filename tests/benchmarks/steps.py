"""What every peer is made into: a function that runs one step on its batch, and gives a way to read the loss."""

from collections.abc import Callable
from dataclasses import dataclass

Read = Callable[[], float | None]
"""Reads the loss, which a training loop does now and then; None on a rank that has no loss."""

Step = Callable[[], Read]
"""Runs one step on the batch that it was made with."""


@dataclass(frozen=True)
class Peer:
    """Something to measure.

    Args:
        name: for the report.
        build: makes the step; nothing is compiled before it is called.
        group: of several peers of one group only the fastest is timed; None: the peer is a group of its own.
    """

    name: str
    build: Callable[[], Step]
    group: str | None = None
