"""The checks of optimizers' settings: each names the setting, its value and what to pass instead."""

from math import inf

from funpipe._errors import FunpipeError, FunpipeTypeError


def check_between(setting: str, value: float, low: float, high: float, remedy: str) -> None:
    """Raises unless `low <= value < high`; NaN never is."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FunpipeTypeError(f"{setting} is {value!r}, a {type(value).__name__}; {remedy}")
    if not low <= value < high:
        bounds = f"at least {low} and finite" if high == inf else f"in [{low}, {high})"
        raise FunpipeError(f"{setting} is {value!r}, and must be {bounds}; {remedy}")


def check_at_least_zero(setting: str, value: float, example: float) -> None:
    """Raises unless the value is at least zero and finite."""
    check_between(setting, value, 0, inf, f"pass a number such as {example}")


def check_steps(setting: str, value: int, least: int) -> None:
    """Raises unless the value is a whole number of at least `least` steps."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise FunpipeTypeError(f"{setting} is {value!r}, a {type(value).__name__}; pass a whole number of steps")
    if value < least:
        raise FunpipeError(f"{setting} is {value!r}; pass at least {least}")
