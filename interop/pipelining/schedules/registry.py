"""Schedule classes by name."""

from difflib import get_close_matches

from funpipe.interop.pipelining.errors import PipeValueError
from funpipe.interop.pipelining.schedules.base import _PipelineSchedule
from funpipe.interop.pipelining.schedules.gpipe import ScheduleGPipe
from funpipe.interop.pipelining.schedules.interleaved import ScheduleInterleaved1F1B, ScheduleInterleavedZeroBubble
from funpipe.interop.pipelining.schedules.looped_bfs import ScheduleLoopedBFS
from funpipe.interop.pipelining.schedules.multi import PipelineScheduleMulti
from funpipe.interop.pipelining.schedules.one_f_one_b import Schedule1F1B
from funpipe.interop.pipelining.schedules.single import PipelineScheduleSingle
from funpipe.interop.pipelining.schedules.v_shaped import ScheduleDualPipeV, ScheduleZBVZeroBubble

_CLASSES: dict[str, type[_PipelineSchedule]] = {
    "1F1B": Schedule1F1B,
    "Interleaved1F1B": ScheduleInterleaved1F1B,
    "GPipe": ScheduleGPipe,
    "LoopedBFS": ScheduleLoopedBFS,
    "InterleavedZeroBubble": ScheduleInterleavedZeroBubble,
    "PipelineScheduleSingle": PipelineScheduleSingle,
    "PipelineScheduleMulti": PipelineScheduleMulti,
    "ZBVZeroBubble": ScheduleZBVZeroBubble,
    "DualPipeV": ScheduleDualPipeV,
}


def get_schedule_class(schedule_name: str) -> type[_PipelineSchedule]:
    """A schedule class by name.

    Args:
        schedule_name: upper and lower case make no difference.

    Returns:
        The class.

    Raises:
        PipeValueError: no class has this name.

    Example:
        >>> get_schedule_class("interleaved1f1b").__name__
        'ScheduleInterleaved1F1B'
    """
    by_lower = {name.lower(): found for name, found in _CLASSES.items()}
    found = by_lower.get(str(schedule_name).lower())
    if found is None:
        near = get_close_matches(str(schedule_name).lower(), by_lower, n=1, cutoff=0.4)
        hint = f"; the nearest is {next(name for name in _CLASSES if name.lower() == near[0])}" if near else ""
        raise PipeValueError(f"Unknown schedule name '{schedule_name}'. The valid options are {list(_CLASSES)}{hint}.")
    return found
