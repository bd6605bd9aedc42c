"""On how many ranks a schedule has how many stages, for a process that plays every rank."""

from collections.abc import Iterator

from funpipe._errors import ScheduleError
from funpipe.schedules import Schedule

MOST_RANKS = 2**14
"""How many ranks one process plays at most."""


def fewest_stages(schedule: Schedule) -> int:
    """The number of stages on the first number of ranks for which the schedule exists: one, unless it has a map.

    Example:
        >>> from funpipe.schedules import ZBV, OneFOneB
        >>> fewest_stages(ZBV()), fewest_stages(OneFOneB(stage_to_rank=(0, 1, 1)))
        (2, 3)
    """
    for _, stages in _counts(schedule, MOST_RANKS):
        return stages
    return schedule.num_stages(MOST_RANKS)


def ranks_with(schedule: Schedule, num_stages: int) -> int | None:
    """The number of ranks on which a schedule has a number of stages; None: on no number.

    Example:
        >>> from funpipe.schedules import ZBV
        >>> ranks_with(ZBV(), 8), ranks_with(ZBV(), 7)
        (4, None)
    """
    return next((ranks for ranks, stages in _counts(schedule, num_stages) if stages == num_stages), None)


def nearest_counts(schedule: Schedule, num_stages: int) -> list[int]:
    """The numbers of stages that a schedule can have and that are nearest: one below, one above, where there are such.

    Example:
        >>> from funpipe.schedules import ZBV
        >>> nearest_counts(ZBV(), 7), nearest_counts(ZBV(), 1)
        ([6, 8], [2])
    """
    found = {stages for _, stages in _counts(schedule, num_stages + 1)} or {fewest_stages(schedule)}
    below, above = (n for n in found if n < num_stages), (n for n in found if n > num_stages)
    return [*sorted(below)[-1:], *sorted(above)[:1]]


def _counts(schedule: Schedule, most_ranks: int) -> Iterator[tuple[int, int]]:
    """Numbers of ranks, and the stages that the schedule has on each."""
    for ranks in range(1, most_ranks + 1):
        try:
            yield ranks, schedule.num_stages(ranks)
        except ScheduleError:  # it does not exist for this number of ranks: another may fit
            continue
