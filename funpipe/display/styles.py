"""How each kind of box looks: a colour, a pattern and a letter, so that any one of the three tells it apart.

Fills are light, so that dark labels can be read on them, lines of patterns included; see the test of their contrast.
"""

from dataclasses import dataclass

from funpipe.display.boxes import BoxKind

INK = "#1a1a1a"
"""Of labels, and of the lines around boxes."""

IDLE = "#f4f4f4"
TILE = 8
"""Pixels that a pattern takes before it repeats."""


@dataclass(frozen=True)
class Style:
    """How a kind of box looks.

    Args:
        word: what it is, for the legend.
        fill: its colour.
        line: the colour of its pattern.
        pattern: an SVG path of one tile, stroked; empty: plain.
        mark: the character that fills its box in text.
    """

    word: str
    fill: str
    line: str
    pattern: str
    mark: str


STYLES: dict[BoxKind, Style] = {
    "F": Style("forward", "#cfe4f7", "#cfe4f7", "", "-"),
    "B": Style("backward", "#fde0bd", "#e2a35c", "M-2 2L2 -2M0 8L8 0M6 10L10 6", "="),
    "I": Style("input gradient", "#d8efd3", "#86bd7b", "M-2 6L2 10M0 0L8 8M6 -2L10 2", "~"),
    "W": Style("weight gradient", "#eadcf4", "#b694cf", "M0 2L2 6L4 2L6 6L8 2", "+"),
    "communication": Style("communication", "#d3d7db", "#7d868f", "M2 0V8M6 0V8", ":"),
    "update": Style("update", "#fbf2b4", "#c4ad37", "M0 2H8M0 6H8", "u"),
    "other": Style("other work", "#f7dfe4", "#d391a1", "M0 4H8M4 0V8", "o"),
}

IDLE_MARK = "."
TOGETHER_MARK = "#"
