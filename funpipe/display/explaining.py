"""The tables of an explanation: stages, and what crosses their cuts, as text."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from funpipe.stages.summary import Crossing, StageSummary


def amount(nbytes: int) -> str:
    """Bytes in the largest unit of which there is one.

    Example:
        >>> amount(12), amount(2048), amount(3 * 2**20)
        ('12 B', '2.0 KiB', '3.0 MiB')
    """
    size, units = float(nbytes), iter(("B", "KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    while size >= 1024 and unit != "TiB":
        size, unit = size / 1024, next(units)
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"


def count(number: int) -> str:
    """A large number with three digits.

    Example:
        >>> count(12), count(12_345), count(1_230_000_000)
        ('12', '12.3k', '1.23G')
    """
    size, units = float(number), iter(("", "k", "M", "G", "T", "P"))
    unit = next(units)
    while size >= 999.5 and unit != "P":
        size, unit = size / 1000, next(units)
    return f"{size:.0f}" if not unit else f"{size:.3g}{unit}"


def stage_table(stages: Iterable[StageSummary]) -> str:
    """The stages, a line each."""
    head = ("stage", "parameters", "bytes", "flops F", "flops B", "saved", "modules")
    rows = [
        (str(s.index), count(s.numbers), amount(s.nbytes), count(s.forward), count(s.backward), amount(s.saved))
        + (some(s.modules),)
        for s in stages
    ]
    return table([head, *rows])


def crossing_table(crossings: Iterable[Crossing]) -> str:
    """What crosses the cuts, a line each; a value that skips stages says so."""
    head = ("value", "type", "bytes", "stages", "made in", "at")
    rows = [(c.value, str(c.type), amount(c.nbytes), _stages(c), c.module or "-", _short(c.source)) for c in crossings]
    return table([head, *rows])


def _short(source: str | None) -> str:
    """A line without the folder that packages are installed in, or that is the current one."""
    if source is None:
        return "-"
    for folder in ("site-packages/", f"{Path.cwd()}/"):
        source = source.rpartition(folder)[2]
    return source


def _stages(crossing: Crossing) -> str:
    skips = f" (skips {crossing.skips})" if crossing.skips else ""
    return f"{crossing.maker} -> {','.join(map(str, crossing.readers))}{skips}"


def some(names: Sequence[str], most: int = 4) -> str:
    """Names, or the first and the last of many.

    Example:
        >>> some(("a", "b")), some(tuple("abcdefgh"))
        ('a, b', 'a, b, c, … h (8)')
    """
    if len(names) <= most:
        return ", ".join(names) or "-"
    return f"{', '.join(names[: most - 1])}, … {names[-1]} ({len(names)})"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
