"""A profile as trace events, which Perfetto and Chrome show; times are in microseconds.

Source: "Trace Event Format", the document of the Chromium project: besides what `_trace_events` writes, flow events
(`ph` s, f). A flow event belongs to the slice of its process and thread that is under way at its time.
"""

from collections.abc import Iterator, Sequence

from funpipe._trace_events import TraceEvent, process, span
from funpipe._typing import MeshShape
from funpipe.runtime.profiling.event import Event

_LONGEST = 300
"""Characters of an instruction that are shown."""


def trace_events(events: Sequence[Event], mesh: MeshShape) -> list[TraceEvent]:
    """The contents of a trace file: names of the rows, instructions, and arrows between them."""
    return [*_rows(mesh), *map(_slice, events), *_arrows(events, mesh)]


def _rows(mesh: MeshShape) -> Iterator[TraceEvent]:
    for rank in range(mesh.pp * mesh.dp):
        replica = f" (replica {rank // mesh.pp}, pipeline rank {rank % mesh.pp})" if mesh.dp > 1 else ""
        yield from process(rank, f"rank {rank}{replica}")


def _slice(event: Event) -> TraceEvent:
    arguments = {
        "instruction": event.text[:_LONGEST],
        "stage": event.stage,
        "microbatch": event.microbatch,
        "bytes": event.nbytes,
    }
    return span(event.name, event.share, (event.rank, 0), (event.start, event.end), arguments)


def _arrows(events: Sequence[Event], mesh: MeshShape) -> Iterator[TraceEvent]:
    """From each send to the wait for its message: into the middle of what is left of the wait when the send begins."""
    sends = {_message(e, mesh): e for e in events if e.kind == "send"}
    waits = {_message(e, mesh): e for e in events if e.kind == "wait_recv"}
    for number, (key, sent) in enumerate(sends.items()):
        if (got := waits.get(key)) is not None:
            common = {"name": "message", "cat": "message", "id": number, "tid": 0}
            arrives = (max(got.start, min(sent.start, got.end)) + got.end) / 2
            yield {**common, "ph": "s", "pid": sent.rank, "ts": 1e6 * sent.start}
            yield {**common, "ph": "f", "bp": "e", "pid": got.rank, "ts": 1e6 * arrives}


def _message(event: Event, mesh: MeshShape) -> tuple[int, int | None]:
    """What both ends of a message have in common; each replica has messages of the same ids."""
    return event.rank // mesh.pp, event.message
