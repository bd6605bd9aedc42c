"""`svg`: a picture as SVG."""

from collections.abc import Iterable

from funpipe.display.boxes import Box
from funpipe.display.curves import curves
from funpipe.display.layout import GUTTER, LETTER, LINE, PAD, Layout
from funpipe.display.legend import axis, drawn, legend, patterns
from funpipe.display.lengths import require_width
from funpipe.display.markup import element, escaped
from funpipe.display.showing import Drawable, picture
from funpipe.display.styles import IDLE, INK, STYLES

_FONT = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_VISIBLE = 0.75
"""Pixels that a box has at least."""


class Svg(str):
    """SVG text that a notebook shows as the picture it is.

    Example:
        >>> from funpipe.schedules import GPipe
        >>> isinstance(svg(GPipe().table(2, 2)), str)
        True
    """

    __slots__ = ()

    def _repr_svg_(self) -> str:
        return str(self)


def svg(
    x: Drawable,
    *,
    ranks: Iterable[int] | None = None,
    time: tuple[float, float] | None = None,
    width: int | None = None,
    memory: bool = False,
) -> Svg:
    """A picture as SVG: a row for each rank, an axis of time, a legend.

    Each kind of box has a colour, a pattern and a letter. Boxes that are too narrow for their label keep the other two,
    and every box says what it is to a reader who points at it. Messages on their way are thin boxes below the row of
    the rank that sends.

    Args:
        x: a table, a simulation, a profile or a picture.
        ranks: whose rows; None: all, of many the first ones.
        time: begin and end of what is shown; None: all, of very many boxes the first ones.
        width: pixels for all of the time; None: as many as labels need, at most 1600.
        memory: also draw what each rank holds over time, if `x` is a simulation.

    Returns:
        A string: the contents of a file.

    Raises:
        FunpipeTypeError: `x` has no picture.
        ScheduleError: a rank that is not there, a time that ends before it begins, or a width that is not above 0.

    Example:
        >>> from funpipe.schedules import OneFOneB
        >>> drawn = svg(OneFOneB().table(num_ranks=4, num_microbatches=8))
        >>> drawn[:4], drawn.count("<pattern")
        ('<svg', 7)
    """
    require_width(width, "pixels")
    shown = picture(x, ranks=ranks, time=time)
    layout = Layout.of(shown, width, memory=memory)
    lines = legend(layout)
    height = layout.legend + LINE * len(lines) + PAD
    name = f"{len(shown.rows)} rows, {shown.begin:g} to {shown.end:g} {shown.unit}"
    return Svg(
        element(
            "svg",
            element("title", escaped(name)),
            element("defs", *patterns()),
            element("rect", width="100%", height="100%", fill="#ffffff"),
            *(_row(layout, row) for row in range(len(shown.rows))),
            element("g", *(_box(layout, box) for box in shown.boxes), stroke=INK, stroke_width=0.6),
            element("g", *_labels(layout), text_anchor="middle", paint_order="stroke", stroke_width=3),
            *axis(layout),
            *(curves(layout) if memory else ()),
            *drawn(layout, lines),
            xmlns="http://www.w3.org/2000/svg",
            width=layout.width,
            height=height,
            viewBox=f"0 0 {layout.width:g} {height:g}",
            role="img",
            font_family=_FONT,
            font_size=10,
            fill=INK,
        )
    )


def _row(layout: Layout, row: int) -> str:
    """What an idle rank looks like, and its name."""
    top = layout.top(row)
    track = element("rect", x=layout.left, y=top, width=layout.across, height=layout.box, fill=IDLE)
    middle = top + layout.box / 2 + 3.5
    return track + element(
        "text", escaped(layout.picture.rows[row]), x=layout.left - GUTTER, y=middle, text_anchor="end"
    )


def _box(layout: Layout, box: Box) -> str:
    x, width = _extent(layout, box)
    title = element("title", escaped(box.title))
    parts = (
        element("rect", x=x, y=y, width=width, height=height, fill=f"url(#fp-{kind}) {STYLES[kind].fill}")
        for kind, (y, height) in zip(box.kinds, layout.stripes(box), strict=True)
    )
    return element("g", title, *parts)


def _extent(layout: Layout, box: Box) -> tuple[float, float]:
    x = layout.x(box.start)
    return x, max(layout.x(box.end) - x, _VISIBLE)


def _labels(layout: Layout) -> Iterable[str]:
    for box in layout.picture.boxes:
        x, width = _extent(layout, box)
        for kind, label, (y, height) in zip(box.kinds, box.labels, layout.stripes(box), strict=True):
            if label and len(label) * LETTER + 2 <= width:
                halo = STYLES[kind].fill
                yield element("text", escaped(label), x=x + width / 2, y=y + height / 2 + 3.5, stroke=halo)
