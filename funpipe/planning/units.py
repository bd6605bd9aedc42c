"""Times and bytes as a person reads them."""


def of_bytes(nbytes: float) -> str:
    """Bytes with a unit of powers of 1000.

    Example:
        >>> of_bytes(80e9), of_bytes(1234)
        ('80 GB', '1.23 kB')
    """
    return _with_unit(nbytes, (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)), "bytes")


def of_seconds(seconds: float) -> str:
    """Seconds with a unit.

    Example:
        >>> of_seconds(2.5), of_seconds(0.0123)
        ('2.5 s', '12.3 ms')
    """
    return _with_unit(seconds, (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)), "s")


def _with_unit(value: float, units: tuple[tuple[str, float], ...], smallest: str) -> str:
    for name, size in units:
        if value >= size:
            return f"{_digits(value / size)} {name}"
    return f"{value:.3g} {smallest}"


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"
