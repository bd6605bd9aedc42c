"""Schedules by name, and everything that may stand for a schedule."""

from difflib import get_close_matches
from inspect import signature
from re import sub
from typing import Any

from funpipe._errors import FunpipeTypeError, ScheduleError
from funpipe.schedules.base import Schedule
from funpipe.schedules.dual_pipe_v import DualPipeV
from funpipe.schedules.eager_one_f_one_b import Eager1F1B
from funpipe.schedules.forward_only import ForwardOnly
from funpipe.schedules.from_table import FromTable
from funpipe.schedules.gpipe import GPipe
from funpipe.schedules.interleaved_one_f_one_b import Interleaved1F1B
from funpipe.schedules.interleaved_zero_bubble import InterleavedZeroBubble
from funpipe.schedules.looped_bfs import LoopedBFS
from funpipe.schedules.one_f_one_b import OneFOneB
from funpipe.schedules.table import Table
from funpipe.schedules.v_half import VHalf
from funpipe.schedules.v_min import VMin
from funpipe.schedules.zbv import ZBV
from funpipe.schedules.zero_bubble_h1 import ZeroBubbleH1
from funpipe.schedules.zero_bubble_h2 import ZeroBubbleH2

_CLASSES: tuple[type[Schedule], ...] = (
    GPipe,
    OneFOneB,
    Eager1F1B,
    Interleaved1F1B,
    LoopedBFS,
    ZeroBubbleH1,
    ZeroBubbleH2,
    InterleavedZeroBubble,
    ZBV,
    VHalf,
    VMin,
    DualPipeV,
    ForwardOnly,
)

SCHEDULES: dict[str, type[Schedule]] = {
    **{cls.__name__.lower(): cls for cls in _CLASSES},
    "1f1b": OneFOneB,
    "zbh1": ZeroBubbleH1,
    "zbh2": ZeroBubbleH2,
}
"""The class's name in lower case, and what a paper calls it where that differs."""


def get(name: str) -> type[Schedule]:
    """A schedule's class by name.

    Args:
        name: the class's name, or what its paper calls it: "1f1b", "zb-h1", "zb-h2". Upper and lower case, hyphens,
            underscores and spaces make no difference.

    Returns:
        The class; call it with its options.

    Raises:
        ScheduleError: no schedule has this name; the nearest ones and all of them are listed.

    Example:
        >>> get("1f1b")()
        OneFOneB()
        >>> get("Interleaved-1F1B")(stages_per_rank=4)
        Interleaved1F1B(stages_per_rank=4)
    """
    plain = sub("[-_ ]", "", name.lower())
    found = SCHEDULES.get(plain)
    if found is None:
        near = get_close_matches(plain, SCHEDULES, cutoff=0.4)
        hint = f"the nearest: {', '.join(near)}; " if near else ""
        raise ScheduleError(
            f"no schedule is named {name!r}; use a name of the list ({hint}all: {', '.join(SCHEDULES)})."
        )
    return found


def resolve(schedule: str | Schedule | Table, stages_per_rank: int | None = None) -> Schedule:
    """A schedule from whatever stands for one.

    Args:
        schedule: a name, a schedule, or a table of the user's own.
        stages_per_rank: for a name whose schedule has this option; None: the schedule's own default.

    Returns:
        The schedule.

    Raises:
        ScheduleError: no schedule has this name, or the table does not pass `check`.
        FunpipeTypeError: something else was passed.

    Example:
        >>> resolve("gpipe"), resolve(OneFOneB())
        (GPipe(), OneFOneB())
    """
    if isinstance(schedule, Schedule):
        return schedule
    if isinstance(schedule, Table):
        return FromTable(schedule)
    if isinstance(schedule, str):
        cls: Any = get(schedule)
        takes_it = stages_per_rank is not None and "stages_per_rank" in signature(cls).parameters
        return cls(stages_per_rank=stages_per_rank) if takes_it else cls()
    if isinstance(schedule, type) and issubclass(schedule, Schedule):
        raise FunpipeTypeError(f"schedule is the class {schedule.__name__}; make one: {schedule.__name__}().")
    raise FunpipeTypeError(f"schedule is a {type(schedule).__name__}; pass a name, a Schedule or a Table.")
