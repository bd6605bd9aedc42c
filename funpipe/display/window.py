"""Which part of something large is shown."""

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral
from sys import maxsize

import numpy as np

from funpipe._errors import ScheduleError

MOST_RANKS = 64
MOST_BOXES = 4000


@dataclass(frozen=True)
class Window:
    """The part that somebody asks for.

    Args:
        ranks: whose rows; None: all, of many the first `MOST_RANKS`.
        time: begin and end; None: all, of many boxes about as long as the first `most_boxes` take.
        most_ranks: that are shown unasked.
        most_boxes: that are shown unasked.
    """

    ranks: tuple[int, ...] | None = None
    time: tuple[float, float] | None = None
    most_ranks: int = MOST_RANKS
    most_boxes: int = MOST_BOXES

    @staticmethod
    def of(ranks: Iterable[int] | None, time: tuple[float, float] | None) -> "Window":
        """Checked.

        Raises:
            ScheduleError: no ranks, a rank twice or one that is no number, or a time that ends before it begins.
        """
        chosen = None if ranks is None else _distinct(tuple(ranks))
        if time is not None and not (np.shape(time) == (2,) and np.isfinite(time).all() and time[0] < time[1]):
            raise ScheduleError(f"time={time!r} is no stretch of time; pass (begin, end) with begin before end.")
        return Window(chosen, time)

    def rows(self, num_ranks: int) -> list[int]:
        """The ranks that are shown, of so many.

        Raises:
            ScheduleError: a rank that does not exist.
        """
        wrong = [rank for rank in self.ranks or () if not 0 <= rank < num_ranks]
        if wrong:
            raise ScheduleError(f"rank {wrong[0]} is not in the picture; use ranks 0 to {num_ranks - 1}.")
        return list(range(min(num_ranks, self.most_ranks)) if self.ranks is None else self.ranks)

    def span(self, start: np.ndarray, last: float) -> tuple[float, float]:
        """Begin and end of what is shown of boxes that start at these times (NaN: none), and end at the last one."""
        if self.time is not None:
            return self.time
        times = start[~np.isnan(start)]
        if times.size > self.most_boxes:
            last = min(last, float(np.partition(times, self.most_boxes)[self.most_boxes]))
        return 0.0, last if last > 0 else 1.0


def _distinct(ranks: tuple[int, ...]) -> tuple[int, ...]:
    if not ranks:
        raise ScheduleError("ranks is empty; name at least one rank, or leave it out for all.")
    for rank in ranks:
        if isinstance(rank, bool) or not isinstance(rank, Integral):
            raise ScheduleError(f"ranks has {rank!r}; pass numbers of ranks, such as ranks=[0, 1].")
        if ranks.count(rank) > 1:
            raise ScheduleError(f"rank {rank} is in ranks {ranks.count(rank)} times; name each rank once.")
    return ranks


EVERYTHING = Window(most_ranks=maxsize, most_boxes=maxsize)


def inside(start: np.ndarray, end: np.ndarray, begin: float, stop: float) -> np.ndarray:
    """Which boxes a stretch of time shows anything of; one without length is seen at both its ends."""
    shown = (end > begin) & (start < stop)
    return shown | ((start == end) & (start >= begin) & (end <= stop))


def note(rows: list[int], num_ranks: int, span: tuple[float, float], last: float) -> str:
    """What a reader is told about the rest."""
    parts = []
    if len(rows) < num_ranks:
        parts.append(f"{len(rows)} of {num_ranks} ranks")
    if span[0] > 0 or span[1] < last:
        parts.append(f"time {span[0]:g} to {span[1]:g} of {last:g}")
    return f"{', '.join(parts)}: ranks= and time= choose others" if parts else ""
