"""Executables that note when each part of a step begins: the same functions in the same order, with a clock between."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from time import perf_counter_ns

from funpipe._errors import FunpipeError
from funpipe.backends.captured import Captured
from funpipe.backends.compiled import Executable
from funpipe.backends.emit import Emitted
from funpipe.backends.link import function_of
from funpipe.backends.step import WholeStep
from funpipe.backends.walk import Walk
from funpipe.programs.instructions import Instruction

Clock = Callable[[], int]
"""Tells the time in nanoseconds."""


@dataclass(frozen=True, eq=False)
class Timed:
    """An executable with a clock, to be run once.

    Args:
        executable: does what the one does that it was made of, to the bit.
        parts: the instructions of each part of the step, in order; none for what only prepares or ends it.
        times: filled while it runs: when each part began, and when the last one ended.
    """

    executable: Executable
    parts: tuple[tuple[Instruction, ...], ...]
    times: list[int]


@singledispatch
def timed(executable: Executable, clock: Clock = perf_counter_ns) -> Timed:
    """Puts a clock into an executable; nothing is compiled.

    Args:
        executable: of any backend.
        clock: is read between the parts.

    Returns:
        Another executable, of the same functions.

    Raises:
        FunpipeError: its parts cannot be told apart.
    """
    raise FunpipeError(f'a {type(executable).__name__} cannot be timed part by part; use backend="step".')


@timed.register
def _(executable: WholeStep, clock: Clock = perf_counter_ns) -> Timed:
    emitted = executable.emitted
    if executable.code.keys() != emitted.graphs.keys():
        raise FunpipeError(
            'with numerics="fast" the whole step is one function, whose parts cannot be timed; use numerics="exact".'
        )
    times: list[int] = []
    names = {**executable.function.__globals__, "tick": lambda: times.append(clock())}
    made = copy.copy(executable)
    made.function = function_of(timed_source(emitted), "step", names)
    return Timed(made, tuple(part.instructions for part in emitted.body), times)


@timed.register
def _(executable: Captured, clock: Clock = perf_counter_ns) -> Timed:
    return timed(executable.step, clock)  # as it is: a CUDA graph has no parts on the host


@timed.register
def _(executable: Walk, clock: Clock = perf_counter_ns) -> Timed:
    times: list[int] = []
    made = copy.copy(executable)
    made.watch = lambda: times.append(clock())
    return Timed(made, tuple((i,) for i in executable.program.instructions), times)


def timed_source(emitted: Emitted) -> str:
    """A step's source with a call of `tick` before each of its parts and before it returns."""
    *lines, returned = (line for part in emitted.body for line in ("tick()", *part.text))
    return "\n    ".join([emitted.head, *lines, "tick()", returned]) + "\n"
