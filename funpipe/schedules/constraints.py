"""What schedules demand of their integers, with errors that name the nearest valid value."""

import operator

from funpipe._errors import ScheduleError


def at_least(least: int, value: int, name: str, schedule: object) -> int:
    """`value` as an integer that is at least `least`."""
    nearest = max(least, round(value)) if isinstance(value, int | float) and abs(value) < 2**31 else least
    try:
        number = operator.index(value)
    except TypeError:
        raise ScheduleError(f"{schedule}: {name}={value!r} is not an integer; use {name}={nearest}.") from None
    if number < least:
        raise ScheduleError(f"{schedule}: {name}={value!r} is below {least}; the nearest valid is {name}={least}.")
    return number


def equal_to(only: int, value: int, name: str, schedule: object) -> int:
    """`value` where there is just one choice."""
    if value != only:
        raise ScheduleError(f"{schedule} exists for {name}={only} only, not {value!r}; use {name}={only}.")
    return only
