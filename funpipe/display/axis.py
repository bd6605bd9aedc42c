"""The numbers along an axis of time."""

from math import ceil, floor, log10


def ticks(begin: float, end: float, most: int) -> list[float]:
    """Round numbers between two, 1, 2 or 5 times a power of ten apart.

    Args:
        begin: the first that may be one.
        end: the last, above `begin`.
        most: how many there may be about.

    Returns:
        Ascending; at most `most + 1`.

    Example:
        >>> ticks(0.0, 19.0, most=5)
        [0.0, 5.0, 10.0, 15.0]
    """
    least = (end - begin) / max(most, 1)
    power = 10.0 ** floor(log10(least))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))
    return [round(n * step, 12) for n in range(ceil(begin / step - 1e-9), floor(end / step + 1e-9) + 1)]


def number_text(at: float) -> str:
    """A tick's number: as many digits as tell neighbours apart, far from zero, too.

    Example:
        >>> number_text(5.0), number_text(12345678.5)
        ('5', '12345678.5')
    """
    return f"{at:.10g}"
