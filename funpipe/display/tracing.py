"""`trace`: a picture as a file for a viewer of traces, in which one can look closer."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence

from funpipe import _trace_events as events
from funpipe.display.boxes import Box, Picture
from funpipe.display.lengths import require_seconds
from funpipe.display.measured import Measured
from funpipe.display.showing import Drawable, pictured
from funpipe.display.window import EVERYTHING


def trace(x: Drawable, path: str | os.PathLike[str], *, seconds: float = 1.0) -> None:
    """Writes a file that https://ui.perfetto.dev and chrome://tracing open: one row for each rank.

    Tasks, messages on their way (in rows of their own below) and idle time are slices of the categories `compute`,
    `communication` and `idle`. A profile is written with its instructions, and arrows between sends and receives.

    Args:
        x: a table, a simulation, a profile or a picture; nothing is left out, however large it is.
        path: of the file, by custom ending in `.json`.
        seconds: the length of a unit of time of a simulation, or of a slot; no matter for what was measured.

    Raises:
        FunpipeTypeError: `x` has no picture.
        ScheduleError: `seconds` is not above 0, or not finite.

    Example:
        >>> import json, os, tempfile
        >>> from funpipe.schedules import GPipe, simulate
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "gpipe.json")
        ...     trace(simulate(GPipe().table(2, 1), B=2), path, seconds=1e-3)
        ...     with open(path) as file:
        ...         [(e["name"], e["ts"]) for e in json.load(file)["traceEvents"] if e["ph"] == "X" and e["pid"] == 1]
        [('F0', 1000.0), ('B0', 2000.0), ('idle', 0.0), ('idle', 4000.0)]
    """
    require_seconds(seconds)
    if isinstance(x, Measured):
        x.save(path)
        return
    shown = pictured(x, EVERYTHING)
    events.write(path, _events(shown, shown.seconds or seconds))


def _events(shown: Picture, unit: float) -> Iterator[events.TraceEvent]:
    of_row: dict[int, list[Box]] = defaultdict(list)
    for box in sorted(shown.boxes, key=lambda box: box.start):
        of_row[box.row].append(box)
    for row, name in enumerate(shown.rows):
        yield from events.process(row, name)
        yield events.thread(row, 0, "tasks")
        yield from _tasks(row, [box for box in of_row[row] if not box.aside], shown, unit)
        yield from _asides(row, [box for box in of_row[row] if box.aside], unit)


def _tasks(row: int, boxes: Sequence[Box], shown: Picture, unit: float) -> Iterator[events.TraceEvent]:
    """The boxes of a row, and the time between them."""
    for box in boxes:
        yield _span("&".join(box.labels) or box.title, _category(box), (row, 0), (box.start, box.end), unit, box.title)
    ends = [shown.begin, *(box.end for box in boxes)]
    starts = [*(box.start for box in boxes), shown.end]
    for end, start in zip(ends, starts, strict=True):
        if start > end:
            yield _span("idle", "idle", (row, 0), (end, start), unit, "")


def _asides(row: int, boxes: Sequence[Box], unit: float) -> Iterator[events.TraceEvent]:
    """Messages that are on their way at one time are in different rows: slices of a row may not cross."""
    free: list[float] = []
    for box in boxes:
        lane = next((n for n, end in enumerate(free) if end <= box.start), len(free))
        if lane == len(free):
            free.append(box.end)
            yield events.thread(row, lane + 1, "messages")
        free[lane] = box.end
        yield _span("message", "communication", (row, lane + 1), (box.start, box.end), unit, box.title)


def _category(box: Box) -> str:
    return "compute" if len(box.kinds[0]) == 1 else box.kinds[0]


def _span(
    name: str, category: str, row: tuple[int, int], times: tuple[float, float], unit: float, title: str
) -> events.TraceEvent:
    return events.span(name, category, row, (times[0] * unit, times[1] * unit), {"what": title} if title else {})
