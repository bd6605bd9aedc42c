"""A simulated schedule as a trace file, for chrome://tracing and Perfetto."""

import json
import os
from typing import Any

from funpipe.interop.pipelining.schedules.action import _Action
from funpipe.interop.pipelining.schedules.grid import Rows


def _dump_chrometrace(schedule: Rows, filename: str | os.PathLike[str]) -> None:
    """Writes one event for each action: it begins at its step and lasts one.

    Args:
        schedule: for each rank its actions at their steps, None where it waits, such as `_simulate_comms_compute`
            returns; left as it is.
        filename: of the file, which is overwritten.

    Example:
        >>> _dump_chrometrace({0: [_Action.from_str("0F0"), None, _Action.from_str("0I0")]}, os.devnull)
    """
    events = [
        _event(rank, step, action)
        for rank in sorted(schedule)
        for step, action in enumerate(schedule[rank])
        if action is not None
    ]
    with open(filename, "w") as file:
        json.dump({"traceEvents": events}, file)


def _event(rank: int, step: int, action: _Action) -> dict[str, Any]:
    kind = "computation" if action.is_compute_op else "communication"
    return {"name": str(action), "cat": kind, "ph": "X", "pid": rank, "tid": rank, "ts": step, "dur": 1}
