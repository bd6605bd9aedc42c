"""Schedules by name, and everything that may stand for a schedule."""

from difflib import get_close_matches

from funpipe._errors import FunpipeTypeError, ScheduleError
from funpipe.schedules.base import Schedule
from funpipe.schedules.from_table import FromTable
from funpipe.schedules.gpipe import GPipe
from funpipe.schedules.one_f_one_b import OneFOneB
from funpipe.schedules.table import Table

SCHEDULES: dict[str, type[Schedule]] = {"gpipe": GPipe, "onefoneb": OneFOneB, "1f1b": OneFOneB}


def get(name: str) -> type[Schedule]:
    """A schedule's class by name.

    Args:
        name: the class's name in lower case, or "1f1b"; upper case is read as lower case.

    Returns:
        The class; call it with its options.

    Raises:
        ScheduleError: no schedule has this name; the nearest ones and all of them are listed.

    Example:
        >>> get("1f1b")()
        OneFOneB()
    """
    found = SCHEDULES.get(name.lower())
    if found is None:
        near = get_close_matches(name.lower(), SCHEDULES, cutoff=0.4)
        hint = f"the nearest: {', '.join(near)}; " if near else ""
        raise ScheduleError(
            f"no schedule is named {name!r}; use a name of the list ({hint}all: {', '.join(SCHEDULES)})."
        )
    return found


def resolve(schedule: str | Schedule | Table) -> Schedule:
    """A schedule from whatever stands for one.

    Args:
        schedule: a name, a schedule, or a table of the user's own.

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
        return get(schedule)()
    if isinstance(schedule, type) and issubclass(schedule, Schedule):
        raise FunpipeTypeError(f"schedule is the class {schedule.__name__}; make one: {schedule.__name__}().")
    raise FunpipeTypeError(f"schedule is a {type(schedule).__name__}; pass a name, a Schedule or a Table.")
