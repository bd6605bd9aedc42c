"""A profile as trace events, which Perfetto and Chrome show; times are in microseconds.

Source: "Trace Event Format", the document of the Chromium project: complete events (`ph` X), flow events (s, f) and
metadata events (M). A flow event belongs to the slice of its process and thread that is under way at its time.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from funpipe._typing import MeshShape
from funpipe.runtime.profiling.event import Event

_LONGEST = 300
"""Characters of an instruction that are shown."""


def trace_events(events: Sequence[Event], mesh: MeshShape) -> list[dict[str, Any]]:
    """The contents of a trace file: names of the rows, instructions, and arrows between them."""
    return [*_rows(mesh), *map(_slice, events), *_arrows(events, mesh)]


def _rows(mesh: MeshShape) -> Iterator[dict[str, Any]]:
    for rank in range(mesh.pp * mesh.dp):
        replica = f" (replica {rank // mesh.pp}, pipeline rank {rank % mesh.pp})" if mesh.dp > 1 else ""
        yield {"ph": "M", "name": "process_name", "pid": rank, "tid": 0, "args": {"name": f"rank {rank}{replica}"}}
        yield {"ph": "M", "name": "process_sort_index", "pid": rank, "tid": 0, "args": {"sort_index": rank}}


def _slice(event: Event) -> dict[str, Any]:
    return {
        "ph": "X",
        "name": event.name,
        "cat": event.share,
        "pid": event.rank,
        "tid": 0,
        "ts": 1e6 * event.start,
        "dur": 1e6 * event.duration,
        "args": {
            "instruction": event.text[:_LONGEST],
            "stage": event.stage,
            "microbatch": event.microbatch,
            "bytes": event.nbytes,
        },
    }


def _arrows(events: Sequence[Event], mesh: MeshShape) -> Iterator[dict[str, Any]]:
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
