"""Where everything of a drawn picture is, in pixels."""

from dataclasses import dataclass

import numpy as np

from funpipe.display.boxes import Box, Curve, Picture

LETTER = 6.05
"""The width of a letter of size 10 in a font whose letters are all as wide."""
PAD = 8.0
GUTTER = 6.0
LEAST, MOST = 360.0, 1600.0
"""Pixels for the time of a picture."""
LEGEND = 160.0
"""Pixels that the legend has at least, however narrow the time is."""
AXIS = 22.0
CURVE = 34.0
LINE = 20.0


@dataclass(frozen=True)
class Layout:
    """The measures of a picture.

    Args:
        picture: what is drawn.
        left: where its time begins.
        across: how wide its time is.
        box: how high a row is.
        aside: how high the boxes below a row are; 0 without any.
        memory: whether its curves are drawn.
    """

    picture: Picture
    left: float
    across: float
    box: float
    aside: float
    memory: bool

    @staticmethod
    def of(picture: Picture, width: int | None, *, memory: bool) -> "Layout":
        """The layout of a picture.

        Args:
            picture: what is drawn.
            width: pixels for its time; None: as many as labels need.
            memory: whether its curves are drawn.
        """
        names = (*picture.rows, picture.unit, *(map(peak_text, picture.curves) if memory else ()))
        left = PAD + LETTER * max(map(len, names)) + GUTTER
        two = any(len(box.kinds) > 1 for box in picture.boxes)
        aside = any(box.aside for box in picture.boxes)
        across = float(width) if width is not None else _natural(picture)
        return Layout(picture, left, across, 28.0 if two else 20.0, 5.0 if aside else 0.0, memory)

    @property
    def scale(self) -> float:
        """Pixels for a unit of time."""
        return self.across / (self.picture.end - self.picture.begin)

    @property
    def legend_across(self) -> float:
        """How wide the legend may be."""
        return max(self.across, LEGEND)

    @property
    def pitch(self) -> float:
        """From one row to the next."""
        return self.box + self.aside + 5.0

    @property
    def width(self) -> float:
        """Of the whole picture."""
        return self.left + self.legend_across + 2 * PAD

    @property
    def axis(self) -> float:
        """Where the axis is."""
        return PAD + self.pitch * len(self.picture.rows)

    @property
    def curves(self) -> float:
        """Where the curves begin."""
        return self.axis + AXIS

    @property
    def legend(self) -> float:
        """Where the legend begins."""
        return self.curves + (LINE + CURVE * len(self.picture.curves) if self.memory and self.picture.curves else 0.0)

    def x(self, time: float) -> float:
        """Where a time is."""
        return self.left + (time - self.picture.begin) * self.scale

    def top(self, row: int) -> float:
        """Where a row begins."""
        return PAD + self.pitch * row

    def stripes(self, box: Box) -> list[tuple[float, float]]:
        """For each kind of a box where it begins and how high it is: two at once are above each other."""
        top = self.top(box.row)
        if box.aside:
            return [(top + self.box, self.aside)]
        height = self.box / len(box.kinds)
        return [(top + height * number, height) for number in range(len(box.kinds))]


def peak_text(curve: Curve) -> str:
    """The peak of a curve, as it stands beside it."""
    return f"peak {curve.peak:.4g}"


def _natural(picture: Picture) -> float:
    """As many pixels as let nine of ten boxes show their labels."""
    needed = [
        (LETTER * max(map(len, box.labels)) + 4) / (box.end - box.start)
        for box in picture.boxes
        if box.end > box.start and not box.aside and len(box.kinds[0]) == 1
    ]
    scale = float(np.quantile(needed, 0.9)) if needed else 0.0
    return min(max(scale * (picture.end - picture.begin), LEAST), MOST)
