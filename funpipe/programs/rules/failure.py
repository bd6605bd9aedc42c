"""The error of a program that breaks a rule: what is wrong, the program around the line at fault, the remedy."""

from funpipe._errors import ProgramError
from funpipe.programs.program import Program
from funpipe.programs.text import instruction_text

LINES_SHOWN = 3
"""How many lines before and after the marked one are shown."""

WIDTH = 100
"""A line longer than this is cut: a region reads hundreds of values."""


def failure(program: Program, at: int, what: str, note: str, remedy: str) -> ProgramError:
    """The error to raise.

    Args:
        program: the rank's program.
        at: the instruction at fault; the number of instructions where something is missing at the end.
        what: the rule that is broken, in a sentence.
        note: a few words behind the marked line.
        remedy: what to do.
    """
    shown = range(max(0, at - LINES_SHOWN), min(len(program.instructions), at + LINES_SHOWN) + 1)
    lines = [_line(program, i, f"  <-- {note}") if i == at else _line(program, i) for i in shown]
    return ProgramError("\n".join([f"rank {program.rank}, instruction {at}: {what}", *lines, remedy]))


def shortened(text: str) -> str:
    """A line of a program, cut where it is long."""
    return text if len(text) <= WIDTH else f"{text[:WIDTH]} ..."


def _line(program: Program, at: int, note: str = "") -> str:
    end = at == len(program.instructions)
    text = "(end)" if end else shortened(instruction_text(program.instructions[at]))
    return f"{'>' if note else ' '} {at:5} | {text}{note}"
