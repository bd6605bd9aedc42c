"""What a picture is made of, whatever it is of and however it is drawn: rows, and boxes on an axis of time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from funpipe.schedules.drawn import Drawn

BoxKind = Literal["F", "B", "I", "W", "communication", "update", "other"]


@final
@dataclass(frozen=True, slots=True)
class Box:
    """A stretch of a row's time.

    Args:
        row: the number of its row.
        start: in the picture's unit of time.
        end: as `start`.
        kinds: what it is; two for two tasks that run together.
        labels: short, one for each kind.
        title: what a reader sees who points at it.
        aside: whether it goes on beside what the row does: a message on its way.
    """

    row: int
    start: float
    end: float
    kinds: tuple[BoxKind, ...]
    labels: tuple[str, ...]
    title: str
    aside: bool = False


@final
@dataclass(frozen=True, eq=False)
class Curve:
    """What a row holds over time, a step function.

    Args:
        row: the number of its row.
        times: float64, ascending.
        amounts: float64 of the same length: each holds from its time to the next one.
    """

    row: int
    times: np.ndarray
    amounts: np.ndarray

    @property
    def peak(self) -> float:
        """The most."""
        return float(self.amounts.max())


@final
@dataclass(frozen=True, eq=False, repr=False)
class Picture(Drawn):
    """A picture before it is drawn; `text`, `svg` and `trace` take it as they take what it shows.

    Args:
        rows: their names.
        boxes: in any order.
        begin: where the axis of time begins.
        end: where it ends.
        unit: of time, a word for the axis.
        seconds: the length of a unit; None where it has none: a slot, a time that is relative.
        note: what is left out, for a reader; empty if nothing is.
        curves: what the rows hold.

    Example:
        >>> Picture(("rank 0",), (Box(0, 0.0, 1.0, ("F",), ("F0",), "0F0"),), 0.0, 1.0, "slot")
        Picture(1 rows, 1 boxes, 0 to 1 slot)
    """

    rows: tuple[str, ...]
    boxes: tuple[Box, ...]
    begin: float
    end: float
    unit: str
    seconds: float | None = None
    note: str = ""
    curves: tuple[Curve, ...] = ()

    def __repr__(self) -> str:
        span = f"{self.begin:g} to {self.end:g} {self.unit}"
        return f"Picture({len(self.rows)} rows, {len(self.boxes)} boxes, {span})"

    def kinds(self) -> list[BoxKind]:
        """The kinds that it has boxes of, in the order of their legend."""
        found = {kind for box in self.boxes for kind in box.kinds}
        return [kind for kind in ORDER if kind in found]


ORDER: Sequence[BoxKind] = ("F", "B", "I", "W", "communication", "update", "other")
