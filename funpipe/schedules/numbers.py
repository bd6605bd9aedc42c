"""Numbers given once for all, or one for each stage, boundary or rank."""

from collections.abc import Sequence

import numpy as np

from funpipe._errors import ScheduleError

Numbers = float | Sequence[float] | np.ndarray
"""One number for all, or one for each."""


def each(name: str, given: Numbers, count: int, of: str) -> np.ndarray:
    """A number for each of the `count` stages, boundaries or ranks.

    Args:
        name: how the caller calls the number.
        given: the number or numbers.
        count: how many there are.
        of: what there is one for each of.

    Returns:
        float64, shape (count,), read-only.

    Raises:
        ScheduleError: the numbers are not one, or one for each; or one of them is negative or not finite.
    """
    numbers = broadcast(name, given, count, of)
    if not np.isfinite(numbers).all() or (numbers < 0).any():
        raise ScheduleError(f"{name}={given!r}; pass numbers that are finite and not negative.")
    return numbers


def broadcast(name: str, given: Numbers, count: int, of: str) -> np.ndarray:
    """`each` without a demand on the values."""
    try:
        numbers = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise ScheduleError(f"{name}={given!r}; pass one number, or {count}, one for each {of}.") from None
    if numbers.shape not in ((), (count,)):
        raise ScheduleError(f"{name} has shape {numbers.shape}; pass one number, or {count}, one for each {of}.")
    return np.broadcast_to(numbers, (count,))
