"""`text`: a picture in characters, for terminals and logs."""

from collections.abc import Iterable

import numpy as np

from funpipe.display.axis import number_text, ticks
from funpipe.display.boxes import Box, Picture
from funpipe.display.lengths import require_width
from funpipe.display.showing import Drawable, picture
from funpipe.display.styles import IDLE_MARK, STYLES, TOGETHER_MARK

WIDEST = 240
"""Characters for the time of a picture whose boxes would take more to show their labels."""


def text(
    x: Drawable,
    *,
    ranks: Iterable[int] | None = None,
    time: tuple[float, float] | None = None,
    width: int | None = None,
) -> str:
    """A picture in characters: each box its label and the mark of its kind, as long as it takes.

    Args:
        x: a table, a simulation, a profile or a picture.
        ranks: whose rows; None: all, of many the first ones.
        time: begin and end of what is shown; None: all, of very many boxes the first ones.
        width: characters for all of the time; None: as many as labels need, at most 240.

    Returns:
        A line for each rank, an axis of time, a legend.

    Raises:
        FunpipeTypeError: `x` has no picture.
        ScheduleError: a rank that is not there, a time that ends before it begins, or a width that is not above 0.

    Example:
        >>> from funpipe.schedules import OneFOneB, simulate
        >>> print(text(simulate(OneFOneB().table(2, 3), B=2)))
        rank 0 | F0-F1-......B0====F2-B1====...B2====
        rank 1 | ...F0-B0====F1-B1====F2-B2====......
        time   | 0              5              10
        F- forward, B= backward, . idle; a character is 0.333
    """
    require_width(width, "characters")
    shown = picture(x, ranks=ranks, time=time)
    scale = _scale(shown, width)
    columns = max(1, round((shown.end - shown.begin) * scale))
    rows = _rows(shown, scale, columns)
    names = max(map(len, (*shown.rows, "time")))
    lines = [f"{name:<{names}} | {''.join(row)}" for name, row in zip(shown.rows, rows, strict=True)]
    axis = f"{'time':<{names}} | {_axis(shown, scale, columns)}"
    words = filter(None, (_unseen(shown, scale), shown.note))
    return "\n".join([*lines, axis.rstrip(), _legend(shown, scale), *words])


def _scale(shown: Picture, width: int | None) -> float:
    """Characters for a unit of time: as many as the most narrow label needs, if there is room."""
    span = shown.end - shown.begin
    needed = [(len(_label(b)) + 1) / (b.end - b.start) for b in shown.boxes if b.end > b.start and not b.aside]
    most = (WIDEST if width is None else width) / span
    return most if width is not None else min(max(needed, default=most), most)


def _label(box: Box) -> str:
    return "&".join(box.labels)


def _rows(shown: Picture, scale: float, columns: int) -> list[list[str]]:
    rows = [[IDLE_MARK] * columns for _ in shown.rows]
    # What goes on beside the tasks is seen where the row is idle: it comes first and is written over.
    for box in sorted(shown.boxes, key=lambda box: not box.aside):
        first, stop = _columns(shown, box, scale)
        rows[box.row][first:stop] = _filled(box, stop - first)
    return rows


def _columns(shown: Picture, box: Box, scale: float) -> tuple[int, int]:
    return round((box.start - shown.begin) * scale), round((box.end - shown.begin) * scale)


def _unseen(shown: Picture, scale: float) -> str:
    """What a reader is told about boxes that no character stands for."""
    unseen = sum(first == stop for first, stop in (_columns(shown, b, scale) for b in shown.boxes if not b.aside))
    return f"{unseen} boxes are narrower than a character: width= or time= shows them" if unseen else ""


def _filled(box: Box, size: int) -> str:
    """A box of so many characters: its label if one is left for the mark, else its letter."""
    mark = STYLES[box.kinds[0]].mark if len(box.kinds) == 1 else TOGETHER_MARK
    label = _label(box)
    if len(label) >= size:
        label = box.kinds[0] if size and len(box.kinds[0]) == 1 else ""
    return label + mark * (size - len(label))


def _axis(shown: Picture, scale: float, columns: int) -> str:
    line = np.full(columns + 20, " ")
    for at in ticks(shown.begin, shown.end, most=columns // 8):
        number = number_text(at)
        column = round((at - shown.begin) * scale)
        line[column : column + len(number)] = list(number)
    return "".join(line)


def _legend(shown: Picture, scale: float) -> str:
    kinds = [(kind, STYLES[kind]) for kind in shown.kinds()]
    words = [f"{kind if len(kind) == 1 else ''}{style.mark} {style.word}" for kind, style in kinds]
    together = [f"{TOGETHER_MARK} two at once"] if any(len(box.kinds) > 1 for box in shown.boxes) else []
    unit = "" if shown.unit == "time" else f" {shown.unit}"
    character = f"a character is {1 / scale:.3g}{unit}"
    return f"{', '.join([*words, *together, f'{IDLE_MARK} idle'])}; {character}"
