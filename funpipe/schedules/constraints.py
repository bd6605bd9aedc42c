"""What schedules demand of their integers, with errors that name the nearest valid value."""

import operator
from collections.abc import Sequence
from itertools import count

from funpipe._errors import ScheduleError
from funpipe.schedules.codes import MAX_CODES

MOST = MAX_CODES // 4
"""A table with more ranks or microbatches would have more tasks than codes: refused before any array is made."""


def at_least(least: int, value: int, name: str, schedule: object) -> int:
    """`value` as an integer that is at least `least`, and not beyond every table."""
    number = integer(value, name, schedule, least)
    if number < least:
        raise ScheduleError(f"{schedule}: {name}={value!r} is below {least}; the nearest valid is {name}={least}.")
    if number > MOST:
        raise ScheduleError(f"{schedule}: {name}={value!r} is above {MOST}; the nearest valid is {name}={MOST}.")
    return number


def integer(value: int, name: str, schedule: object, least: int = 0) -> int:
    """`value` as an integer; the error names the nearest one that is at least `least`."""
    try:
        return int(operator.index(value))
    except TypeError:
        nearest = max(least, round(value)) if isinstance(value, int | float) and abs(value) < 2**31 else least
        raise ScheduleError(f"{schedule}: {name}={value!r} is not an integer; use {name}={nearest}.") from None


def ranks_of_stages(given: Sequence[int], name: str, schedule: object) -> tuple[int, ...]:
    """`given`, a map of stages to ranks, as integers."""
    try:
        return tuple(int(operator.index(rank)) for rank in given)
    except TypeError:
        raise ScheduleError(
            f"{schedule}: {name}={given!r} is no map of stages to ranks; pass an integer for each stage, like (0, 1)."
        ) from None


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
