"""The table of the list: which check of which model holds, a row for each, in `docs/models.md`."""

from collections.abc import Callable, Sequence
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "models.md"
HEADING = "## The list\n"
"""Everything behind it is written by `python -m tests.models`."""

NATIVE = ("forward", "names", "gradients", "three steps", "4 stages", "inside a block")
PIPELINE = ("converts", "forward", "names", "gradients", "three steps", "4 stages", "inside a block")
COLUMNS = (*NATIVE, *PIPELINE)
GROUPS = len(NATIVE)
"""Columns before it are those of funpipe's own functions."""

Outcome = bool | str | None
"""Whether a check holds, or the error; None: the model has no such cut."""


def outcomes(checks: dict[str, Callable[[], None]], columns: Sequence[str]) -> list[Outcome]:
    """Runs the checks of a model, column by column."""
    return [_outcome(checks[column]) if column in checks else None for column in columns]


def _outcome(check: Callable[[], None]) -> Outcome:
    try:
        check()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return True


def head() -> str:
    """The table above its rows."""
    names = [f"`pipeline()`: {c}" if i == GROUPS else c for i, c in enumerate(COLUMNS)]
    return f"| model | {' | '.join(names)} | seconds |\n|---|{'---|' * (len(COLUMNS) + 1)}\n"


def row(name: str, found: Sequence[Outcome], seconds: float) -> str:
    """The line of a model."""
    cells = ["" if one is None else "✓" if one is True else "–" for one in found]
    return f"| {name} | {' | '.join(cells)} | {seconds:.0f} |"


def rows_of(page: Path) -> dict[str, str]:
    """The rows that a page has, by model."""
    lines = _parts(page)[1].splitlines()
    found = {line.split(" | ")[0].removeprefix("| "): line for line in lines if line.startswith("| ")}
    return {name: line for name, line in found.items() if name != "model"}


def write(page: Path, rows: dict[str, str], order: Sequence[str]) -> None:
    """Writes the rows behind the heading, in the order of the list."""
    lines = [rows[name] for name in order if name in rows]
    page.write_text(f"{_parts(page)[0]}{HEADING}\n{head()}" + "".join(f"{line}\n" for line in lines))


def _parts(page: Path) -> tuple[str, str]:
    """The text before the heading, and the table."""
    before, _, table = page.read_text().partition(HEADING)
    return before, table
