"""Pictures of what was measured: the profile of a real step."""

import os
import re
from collections.abc import Sequence
from typing import Literal, Protocol, cast, runtime_checkable

import numpy as np

from funpipe._typing import MeshShape
from funpipe.display.boxes import Box, BoxKind, Picture
from funpipe.display.window import Window, inside, note

_MS = 1e3

TaskKind = Literal["F", "B", "I", "W"]

# Each of the two runs in the text of an instruction `overlap (F0 1 (READS) (WRITES)) (B3 0 (READS) (WRITES))`.
_TOGETHER = re.compile(r"\(([FBIW])(\d+) (\d+) \(")


class Event(Protocol):
    """As much of an event of a profile as a picture shows; see `runtime.profiling.Event`."""

    @property
    def rank(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def share(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def stage(self) -> int | None: ...
    @property
    def microbatch(self) -> int | None: ...
    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...


@runtime_checkable
class Measured(Protocol):
    """A profile; see `runtime.profiling.Profile`."""

    @property
    def events(self) -> Sequence[Event]: ...
    @property
    def mesh(self) -> MeshShape: ...

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the trace file."""
        ...


def of_profile(profile: Measured, window: Window) -> Picture:
    """A profile in milliseconds: what each rank computes, sends and updates; where it waits, it is idle."""
    num_ranks = profile.mesh.pp * profile.mesh.dp
    rows = {rank: row for row, rank in enumerate(window.rows(num_ranks))}
    events = [event for event in profile.events if event.rank in rows and event.share != "bubble"]
    start, end = (_MS * np.array(times) for times in ([e.start for e in events], [e.end for e in events]))
    last = ends(profile)
    span = window.span(start, last)
    shown = np.flatnonzero(inside(start, end, *span))
    short = _one_stage_each(profile.events)
    boxes = tuple(_box(events[i], rows[events[i].rank], span, short) for i in shown)
    left_out = note(list(rows), num_ranks, span, last)
    return Picture(tuple(f"rank {rank}" for rank in rows), boxes, *span, "ms", 1 / _MS, left_out)


def ends(profile: Measured) -> float:
    """When the last event ends, in milliseconds."""
    return _MS * max((event.end for event in profile.events), default=0.0)


def _one_stage_each(events: Sequence[Event]) -> bool:
    """Whether a row says which stage a task is of."""
    found = {(event.rank, stage) for event in events for _, stage, _ in tasks_of(event)}
    return len(found) == len({rank for rank, _ in found})


def _box(event: Event, row: int, span: tuple[float, float], short: bool) -> Box:
    tasks = tasks_of(event)
    labels = tuple(f"{'' if short else stage}{kind}{microbatch}" for kind, stage, microbatch in tasks)
    start, end = max(_MS * event.start, span[0]), min(_MS * event.end, span[1])
    title = f"{event.text}: {_MS * event.start:.4g} to {_MS * event.end:.4g} ms"
    kinds: tuple[BoxKind, ...] = tuple(kind for kind, _, _ in tasks) or (_other_kind(event),)
    return Box(row, start, end, kinds, labels or (event.name,), title)


def tasks_of(event: Event) -> list[tuple[TaskKind, int, int]]:
    """Kind, stage and microbatch of the tasks that an event is: one, two that run together, or none."""
    match event.kind, event.stage, event.microbatch:
        case ("F" | "B" | "I" | "W") as kind, int(stage), int(microbatch):
            return [(kind, stage, microbatch)]
        case "overlap", _, _:
            return [(cast(TaskKind, kind), int(stage), int(i)) for kind, stage, i in _TOGETHER.findall(event.text)]
    return []


def _other_kind(event: Event) -> BoxKind:
    """What an event that is no task is drawn as."""
    return cast(BoxKind, event.share) if event.share in ("communication", "update") else "other"
