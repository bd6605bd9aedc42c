"""The lengths that callers give: of a picture, and of a unit of time."""

from math import inf

from funpipe._errors import ScheduleError


def require_width(width: float | None, unit: str) -> None:
    """A width that is given is above 0 and finite.

    Raises:
        ScheduleError: it is not.
    """
    if width is not None and not 0 < width < inf:
        raise ScheduleError(f"width={width!r}; pass how many {unit} the time takes, or None for as many as needed.")


def require_seconds(seconds: float) -> None:
    """A unit of time has a length.

    Raises:
        ScheduleError: it is not above 0, or not finite.
    """
    if not 0 < seconds < inf:
        raise ScheduleError(f"seconds={seconds!r}; pass how long a unit of time is, such as 1e-3 for a millisecond.")
