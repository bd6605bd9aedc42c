"""Rows as a picture."""

import importlib
from collections.abc import Iterator, Sequence
from typing import Any

from funpipe.interop.pipelining._schedule_visualizer.looks import action_type_to_color_mapping, width_of
from funpipe.interop.pipelining.errors import PipeImportError
from funpipe.interop.pipelining.schedules.action import _Action, parts


def visualize_schedule(schedule: Sequence[Sequence[_Action | None]], filename: str | None = None) -> None:
    """Draws a row of boxes for each rank, a box for each action.

    Args:
        schedule: a list for each rank, such as `get_schedule_ops` gives; left as it is.
        filename: of the picture; None: it is shown.

    Raises:
        PipeImportError: matplotlib is not installed.

    Example:
        >>> from funpipe.interop.pipelining._schedule_visualizer import get_schedule_ops
        >>> rows = get_schedule_ops("1F1B", pp_degree=4, num_microbatches=8, add_spacing=True)
        >>> visualize_schedule(rows, "1f1b.png")  # doctest: +SKIP
    """
    pyplot = _matplotlib("matplotlib.pyplot")
    boxes = list(_boxes(schedule))
    columns = max((left + width for _, left, width, _ in boxes), default=1)
    figure, axes = pyplot.subplots(figsize=(min(2 + 0.35 * columns, 120), 1.5 + 0.5 * len(schedule)))
    kinds = {}
    for rank, left, width, action in boxes:
        looks = action_type_to_color_mapping[action.computation_type]
        drawn = axes.barh(rank, width, left=left, height=0.9, color=looks.color, edgecolor="black", linewidth=0.4)
        kinds.setdefault(looks.text, drawn)
        axes.text(left + width / 2, rank, _label(action), ha="center", va="center", fontsize=6)
    axes.set_yticks(range(len(schedule)), [f"Rank {rank}" for rank in range(len(schedule))])
    axes.invert_yaxis()
    axes.set_xlabel("Step")
    axes.legend(kinds.values(), kinds.keys(), loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.tight_layout()
    if filename is None:
        pyplot.show()
    else:
        figure.savefig(filename)
        pyplot.close(figure)


def _boxes(schedule: Sequence[Sequence[_Action | None]]) -> Iterator[tuple[int, int, int, _Action]]:
    """Each action with its rank, its first column, and how many it takes."""
    for rank, row in enumerate(schedule):
        left = 0
        for action in row:
            if action is not None:
                yield rank, left, width_of(action), action
            left += width_of(action)


def _label(action: _Action) -> str:
    return "\n".join(map(str, parts(action)))


def _matplotlib(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise PipeImportError('visualize_schedule draws with matplotlib; pip install "funpipe[viz]".') from None
