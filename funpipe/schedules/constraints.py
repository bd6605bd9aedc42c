"""What schedules demand of their integers, with errors that name the nearest valid value."""

import operator
from itertools import count

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


def whole_rounds(num_ranks: int, num_microbatches: int, schedule: object) -> int:
    """The microbatches of a round: rounds of equal size, at least as large as there are ranks where m allows it."""
    if _rest(num_ranks, num_microbatches):
        below = next(m for m in range(num_microbatches, 0, -1) if not _rest(num_ranks, m))
        above = next(m for m in count(num_microbatches) if not _rest(num_ranks, m))
        raise ScheduleError(
            f"{schedule}: num_microbatches={num_microbatches} on {num_ranks} ranks do not make rounds of equal size; "
            f"the nearest valid are num_microbatches={below} and num_microbatches={above}."
        )
    return num_microbatches // max(1, num_microbatches // num_ranks)


def _rest(num_ranks: int, num_microbatches: int) -> int:
    return num_microbatches % max(1, num_microbatches // num_ranks)
