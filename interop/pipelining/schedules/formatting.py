"""A schedule as text: a column for each rank, a line for each step."""

from collections.abc import Mapping, Sequence

from funpipe.interop.pipelining.schedules.action import _Action

_MARK = " <-- ERROR HERE"


def _format_pipeline_order(
    pipeline_order: Mapping[int, Sequence[_Action | None]], error_step_number: int | None = None
) -> str:
    """The actions of all ranks as a table.

    Args:
        pipeline_order: for each rank its actions, None where it is idle; left as it is.
        error_step_number: the step to mark.

    Returns:
        A header and a line for each step; idle cells are blank.

    Example:
        >>> text = _format_pipeline_order({0: [_Action.from_str("0F0")], 1: [None, _Action.from_str("1F0")]}, 1)
        >>> text.splitlines()[-1]
        'Step 1:        1F0    <-- ERROR HERE'
    """
    ranks = sorted(pipeline_order)
    columns = [_column(rank, pipeline_order[rank]) for rank in ranks]
    steps = max((len(column) for column in columns), default=1) - 1
    names = ["", *(f"Step {step:0{len(str(max(steps - 1, 0)))}}: " for step in range(steps))]
    names[0] = " " * len(names[-1])
    least = len(names[0].removesuffix("  "))
    widths = [max(least, *map(len, column)) for column in columns]
    lines = [_line(name, index, columns, widths) for index, name in enumerate(names)]
    if error_step_number is not None and 0 <= error_step_number < steps:
        lines[error_step_number + 1] += _MARK
    return "".join(line + "\n" for line in lines)


def _column(rank: int, row: Sequence[_Action | None]) -> list[str]:
    return [f"Rank {rank}", *("" if action is None else str(action) for action in row)]


def _line(name: str, index: int, columns: Sequence[Sequence[str]], widths: Sequence[int]) -> str:
    cells = [column[index] if index < len(column) else "" for column in columns]
    return name + " ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
