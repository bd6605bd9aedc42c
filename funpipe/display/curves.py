"""What each rank holds over time, below the rows of a drawn picture."""

from collections.abc import Iterator

import numpy as np

from funpipe.display.boxes import Curve
from funpipe.display.layout import CURVE, GUTTER, LINE, Layout, peak_text
from funpipe.display.markup import element, escaped
from funpipe.display.styles import INK

_FILL = "#dfe3e8"
_HIGH = CURVE - 8
_VISIBLE = 0.01
"""Pixels that a step takes at least to be drawn."""


def curves(layout: Layout) -> Iterator[str]:
    """A strip for each curve, all of one scale, with its peak as a number."""
    found = layout.picture.curves
    if not found:
        return
    most = max(curve.peak for curve in found) or 1.0
    yield element("text", "memory of each rank", x=layout.left, y=layout.curves + 11)
    for number, curve in enumerate(found):
        yield from _strip(layout, curve, layout.curves + LINE + CURVE * (number + 1) - 8, most)


def _strip(layout: Layout, curve: Curve, foot: float, most: float) -> Iterator[str]:
    yield element("path", d=_area(layout, curve, foot, most), fill=_FILL, stroke=INK, stroke_width=0.8)
    yield element("path", d=f"M{layout.left:g} {foot:g}h{layout.across:g}", stroke=INK, stroke_width=0.4)
    for line, y in ((layout.picture.rows[curve.row], foot - 13), (peak_text(curve), foot - 2)):
        yield element("text", escaped(line), x=layout.left - GUTTER, y=y, text_anchor="end")


def _area(layout: Layout, curve: Curve, foot: float, most: float) -> str:
    """Steps from the foot and back to it, inside the picture's time; of amounts at one time the last."""
    lasts = np.append(np.diff(curve.times) * layout.scale > _VISIBLE, True)
    x = np.clip([layout.x(time) for time in curve.times[lasts]], layout.left, layout.left + layout.across)
    y = foot - curve.amounts[lasts] / most * _HIGH
    steps = "".join(f"H{right:.2f}V{height:.2f}" for right, height in zip(x, y, strict=True))
    return f"M{layout.left:g} {foot:g}{steps}V{foot:g}Z"
