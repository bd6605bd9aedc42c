"""A compiled step as text: the graphs that the rank calls, the kernels of each, and the source that calls them."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from funpipe.backends.called import called
from funpipe.backends.emit import Emitted, Lines
from funpipe.programs.instructions import runs_of
from funpipe.programs.program import Program

_WIDTH = 120


def compiled_text(program: Program, emitted: Emitted, code: Mapping[str, Sequence[str]]) -> str:
    """A compiled step for reading. A piece stands there once, however many graphs and microbatches call it.

    Args:
        program: what runs.
        emitted: its source.
        code: of each graph, by name, what the compiler wrote for its pieces, in order.
    """
    head = program.as_text().splitlines()[0]
    names = {text: f"piece{i}" for i, text in enumerate(dict.fromkeys(t for texts in code.values() for t in texts))}
    graphs = [_graph(name, [names[t] for t in texts], emitted) for name, texts in code.items()]
    pieces = [_line(name, series(called(text)) or "nothing") for text, name in names.items()]
    return "\n\n".join([head, "\n".join(["graphs", *graphs]), "\n".join(["pieces", *pieces]), emitted.source])


def _graph(name: str, pieces: Sequence[str], emitted: Emitted) -> str:
    """How often the step calls a graph, the instructions that it stands for, and its pieces."""
    calls = [part for part in emitted.body if _calls(part, name)]
    does = [type(i).__name__ for part in calls[:1] for i in part.instructions if not runs_of(i)]
    work = f" for {series(does)}" if does else ""
    return _line(name, f"{_often(name, calls, emitted)}{work}: {series(pieces) or 'operators, one by one'}")


def _calls(part: Lines, name: str) -> bool:
    return any(line.split(" ")[-1] == f"{name}(arguments)" for line in part.text)


def _often(name: str, calls: Sequence[Lines], emitted: Emitted) -> str:
    if not calls and name in emitted.graphs:
        return "only as part of an overlap"
    microbatches = {r.microbatch for part in emitted.body for i in part.instructions for r in runs_of(i)}
    runs = [runs_of(i)[0].microbatch for part in calls for i in part.instructions if runs_of(i)]
    if runs and len(runs) % len(microbatches) == 0:
        return f"{_times(len(runs) // len(microbatches))} a microbatch"
    return f"{_times(max(len(calls), 1))} a step"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def series(names: Iterable[str]) -> str:
    """Names in order, with a number before what comes several times on end.

    Example:
        >>> series(["piece0", "piece1", "piece1"])
        'piece0, 2 x piece1'
    """
    runs = ((name, len(list(group))) for name, group in groupby(names))
    return ", ".join(name if count == 1 else f"{count} x {name}" for name, count in runs)


def _line(name: str, text: str) -> str:
    return textwrap.fill(f"{name:<10} {text}", _WIDTH, initial_indent="  ", subsequent_indent=" " * 13)
