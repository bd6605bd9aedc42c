"""Timing things by turns, so that what else the machine does meets all of them, and the statistics of the ratios."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.benchmarks.steps import Step


@dataclass(frozen=True)
class Spread:
    """The median of some numbers, their 10th and their 90th percentile."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        tenths = statistics.quantiles(values, n=10, method="inclusive") if len(values) > 1 else [values[0]]
        return cls(statistics.median(values), tenths[0], tenths[-1])

    def as_text(self, digits: int = 2) -> str:
        """Such as `0.67 (0.62 to 0.71)`."""
        return f"{self.median:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """The ratios pair by pair."""
    return Spread.of([a / b for a, b in zip(ours, theirs, strict=True)])


def alternate(timers: Mapping[str, Callable[[], float]], pairs: int) -> dict[str, list[float]]:
    """Calls every timer `pairs` times, one after the other, every second time in the opposite order."""
    times: dict[str, list[float]] = {name: [] for name in timers}
    for pair in range(pairs):
        for name in list(timers) if pair % 2 == 0 else reversed(list(timers)):
            times[name].append(timers[name]())
    return times


def seconds(step: Step, repeats: int, meet: Callable[[], object]) -> float:
    """The time of one step: `repeats` steps in a row, then the last loss is read.

    Args:
        step: what to time.
        repeats: how many.
        meet: returns once all ranks have called it and the device is idle.
    """
    meet()
    start = time.perf_counter()
    for _ in range(repeats - 1):
        step()
    step()()
    meet()
    return (time.perf_counter() - start) / repeats
