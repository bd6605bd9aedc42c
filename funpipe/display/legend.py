"""What explains a drawn picture: patterns, the axis of time, the legend."""

import re
from collections.abc import Iterator
from textwrap import wrap

from funpipe.display.axis import number_text, ticks
from funpipe.display.boxes import Picture
from funpipe.display.layout import GUTTER, LETTER, LINE, Layout
from funpipe.display.markup import element, escaped
from funpipe.display.styles import IDLE, INK, STYLES, TILE

_SWATCH = 22.0
_HIGH = 14.0


def patterns() -> Iterator[str]:
    """A pattern for each kind of box, to be referred to as `url(#fp-KIND)`."""
    for kind, style in STYLES.items():
        ground = element("rect", width=TILE, height=TILE, fill=style.fill)
        lines = element("path", d=style.pattern, stroke=style.line, fill="none", stroke_width=1.2)
        inside = (ground, lines) if style.pattern else (ground,)
        yield element("pattern", *inside, id=f"fp-{kind}", width=TILE, height=TILE, patternUnits="userSpaceOnUse")


def axis(layout: Layout) -> Iterator[str]:
    """The line, its ticks with their numbers, and the unit in front."""
    picture, y = layout.picture, layout.axis
    path = f"M{layout.left:g} {y:g}H{layout.left + layout.across:g}"
    numbers, free = [], layout.left
    for at in ticks(picture.begin, picture.end, most=max(int(layout.across // 60), 1)):
        path += f"M{layout.x(at):.2f} {y:g}v4"
        number = number_text(at)
        numbers.append(element("text", number, x=layout.x(at), y=y + 14))
        free = min(free, layout.x(at) - LETTER * len(number) / 2)
    yield element("path", d=path, stroke=INK, stroke_width=0.8)
    yield element("text", escaped(picture.unit), x=free - GUTTER, y=y + 14, text_anchor="end")
    yield element("g", *numbers, text_anchor="middle")


Entry = tuple[str, str, str]
"""A letter, a word and a fill; without a fill a line of text."""


def legend(layout: Layout) -> list[list[Entry]]:
    """The legend's lines: a swatch for each kind, how labels read, what is left out."""
    lines: list[list[Entry]] = [[]]
    room = layout.legend_across
    for entry in _swatches(layout.picture):
        room -= _width(entry)
        if room < 0 and lines[-1]:
            lines.append([])
            room = layout.legend_across - _width(entry)
        lines[-1].append(entry)
    words = [part for line in (_reading(layout.picture), layout.picture.note) for part in _wrapped(layout, line)]
    return lines + [[("", line, "")] for line in words]


def drawn(layout: Layout, lines: list[list[Entry]]) -> Iterator[str]:
    """The legend's lines as SVG."""
    for number, line in enumerate(lines):
        x, y = layout.left, layout.legend + LINE * number
        for entry in line:
            yield from _entry(entry, x, y)
            x += _width(entry)


def _wrapped(layout: Layout, line: str) -> list[str]:
    return wrap(line, int(layout.legend_across / LETTER))


def _entry(entry: Entry, x: float, y: float) -> Iterator[str]:
    letter, word, fill = entry
    if fill:
        yield element("rect", x=x, y=y, width=_SWATCH, height=_HIGH, fill=fill, stroke=INK, stroke_width=0.6)
        x += _SWATCH + 5
    if letter:
        yield element("text", letter, x=x - 5 - _SWATCH / 2, y=y + 10.5, text_anchor="middle")
    yield element("text", escaped(word), x=x, y=y + 10.5)


def _width(entry: Entry) -> float:
    return _SWATCH + 5 + LETTER * len(entry[1]) + 14


def _swatches(picture: Picture) -> list[Entry]:
    kinds = [(kind, STYLES[kind]) for kind in picture.kinds()]
    entries = [(kind if len(kind) == 1 else "", style.word, f"url(#fp-{kind}) {style.fill}") for kind, style in kinds]
    return [*entries, ("", "idle", IDLE)]


def _reading(picture: Picture) -> str:
    """How to read a label, by the first one."""
    example = next((box for box in picture.boxes if len(box.kinds[0]) == 1), None)
    if example is None or (match := re.fullmatch(r"(\d*)([FBIW])(\d+)", example.labels[0])) is None:
        return ""
    stage = f"stage {match[1]}, " if match[1] else ""
    return f"{match[0]}: {STYLES[example.kinds[0]].word} of {stage}microbatch {match[3]}"
