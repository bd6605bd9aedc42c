"""The parts of a trace file that everything has which is written as one: a profile, a simulation.

Source: "Trace Event Format", the document of the Chromium project (JSON object format): metadata events (`ph` M) and
complete events (X); times are in microseconds. https://ui.perfetto.dev and chrome://tracing open the file.
"""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

TraceEvent = dict[str, Any]


def process(number: int, name: str) -> Iterator[TraceEvent]:
    """A group of rows, in the order of the numbers."""
    yield {"ph": "M", "name": "process_name", "pid": number, "tid": 0, "args": {"name": name}}
    yield {"ph": "M", "name": "process_sort_index", "pid": number, "tid": 0, "args": {"sort_index": number}}


def thread(process: int, number: int, name: str) -> TraceEvent:
    """A row of a group."""
    return {"ph": "M", "name": "thread_name", "pid": process, "tid": number, "args": {"name": name}}


def span(
    name: str, category: str, row: tuple[int, int], seconds: tuple[float, float], arguments: dict[str, Any]
) -> TraceEvent:
    """A stretch of a row's time: the row by process and thread, the time by start and end."""
    start, end = seconds
    times = {"ts": 1e6 * start, "dur": 1e6 * (end - start)}
    return {"ph": "X", "name": name, "cat": category, "pid": row[0], "tid": row[1], **times, "args": arguments}


def write(path: str | os.PathLike[str], events: Iterable[TraceEvent]) -> None:
    """Writes the file, event by event."""
    with Path(path).open("w") as file:
        file.write('{"displayTimeUnit": "ms", "traceEvents": [')
        for number, event in enumerate(events):
            file.write(f"{',' if number else ''}\n{json.dumps(event, allow_nan=False)}")
        file.write("]}\n")
