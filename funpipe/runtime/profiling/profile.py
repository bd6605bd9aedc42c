"""`Profile`: the events of one step of all ranks."""

import os
from dataclasses import dataclass

from funpipe._trace_events import write
from funpipe._typing import MeshShape
from funpipe.runtime.profiling.event import SHARES, Event
from funpipe.runtime.profiling.text import kinds_text, shares_text
from funpipe.runtime.profiling.trace_file import trace_events


@dataclass(frozen=True)
class Profile:
    """When each instruction of a step ran, on every rank; the same on all of them.

    Args:
        events: rank after rank, each in the order of time.
        mesh: how many pipeline ranks and replicas there are.

    Example:
        >>> forward = Event(0, "h@0 = run F0 0 (batch.x@0)", "F", 0, 0, 0.0, 0.003)
        >>> waits = Event(0, "d@0 = wait_recv 1 d@0", "wait_recv", 0, 0, 0.003, 0.004, message=1, nbytes=64)
        >>> profile = Profile((forward, waits), MeshShape(1))
        >>> profile.shares()[0]["bubble"]
        0.25
        >>> print(profile.as_text())
        kind                     count  total ms   mean ms
        F                            1     3.000     3.000
        wait_recv                    1     1.000     1.000
        <BLANKLINE>
        rank         ms   compute  communication    bubble    update      host
        0         4.000    75.0 %          0.0 %    25.0 %     0.0 %     0.0 %
    """

    events: tuple[Event, ...]
    mesh: MeshShape

    def of(self, rank: int) -> tuple[Event, ...]:
        """One rank's events.

        Args:
            rank: the global rank.
        """
        return tuple(event for event in self.events if event.rank == rank)

    def shares(self) -> tuple[dict[str, float], ...]:
        """What part of its step each rank spends on what.

        Returns:
            For each rank the shares `compute`, `communication` (in calls that send, post or reduce), `bubble` (waiting
            for a message, or for its receiver), `update` and `host`; they sum to 1.
        """
        return tuple(_shares(self.of(rank)) for rank in range(self.mesh.pp * self.mesh.dp))

    def as_text(self) -> str:
        """Two tables: the time of each kind of instruction, all ranks together, and the shares of each rank."""
        spans = [sum(e.duration for e in self.of(rank)) for rank in range(self.mesh.pp * self.mesh.dp)]
        return f"{kinds_text(self.events)}\n\n{shares_text(spans, self.shares())}"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a file that https://ui.perfetto.dev and chrome://tracing open, with one row for each rank.

        The format is that of the "Trace Event Format" document of the Chromium project (JSON object format): complete
        events (`X`) for instructions, flow events (`s`, `f`) from each send to the wait for its message.

        Args:
            path: of the file, by custom ending in `.json`; call it on one rank.
        """
        write(path, trace_events(self.events, self.mesh))


def _shares(events: tuple[Event, ...]) -> dict[str, float]:
    total = sum(event.duration for event in events)
    parts = {share: sum(e.duration for e in events if e.share == share) for share in SHARES}
    return {share: part / total if total else 0.0 for share, part in parts.items()}
