"""One cell of a schedule with communication, in the grammar of torch.distributed.pipelining.

    2F0  2B0  2I0  2W0             a task: stage, kind, microbatch
    2SEND_F0  3RECV_F0             the result of F of stage 2 leaves for stage 3, and arrives there
    3SEND_B0  2RECV_B0             the gradient for the output of stage 2 leaves stage 3, and arrives there
    2UNSHARD  2RESHARD             the stage's parameters are gathered, and let go (fully sharded replicas)
    2REDUCE_GRAD                   the stage's gradients are summed over the replicas, and scaled
    (2F1;5B0)OVERLAP_F_B           two tasks at once
                                   an empty cell: idle

Source: the CSV files that `_PipelineScheduleRuntime` of torch 2.13 writes and reads.
"""

import re
from typing import Literal, NamedTuple, cast

from funpipe._errors import ScheduleError
from funpipe.schedules.row import Cell
from funpipe.schedules.task import KINDS, Overlap, Task

ActionKind = Literal["SEND_F", "RECV_F", "SEND_B", "RECV_B", "UNSHARD", "RESHARD", "REDUCE_GRAD"]

MESSAGE_KINDS: tuple[ActionKind, ...] = ("SEND_F", "RECV_F", "SEND_B", "RECV_B")
STAGE_KINDS: tuple[ActionKind, ...] = ("UNSHARD", "RESHARD", "REDUCE_GRAD")

ALLOWED = (
    "a cell is empty (idle), a task like 2F0, 2B0, 2I0 or 2W0 (stage, kind, microbatch), two at once like "
    "(2F1;5B0)OVERLAP_F_B, or communication like 2SEND_F0, 3RECV_F0, 3SEND_B0, 2RECV_B0, 2UNSHARD, 2RESHARD or "
    "2REDUCE_GRAD"
)

_NUMBER = "(0|[1-9][0-9]{0,8})"  # more digits are refused before anything is made of them
_SINGLE = re.compile(f"{_NUMBER}({'|'.join([*KINDS, *MESSAGE_KINDS])}){_NUMBER}")
_STAGE = re.compile(f"{_NUMBER}({'|'.join(STAGE_KINDS)})")
_OVERLAP = re.compile(r"\(([^();]*);([^();]*)\)OVERLAP_F_B")


class Action(NamedTuple):
    """What a rank does for a stage besides its tasks.

    Args:
        kind: SEND_F, RECV_F, SEND_B, RECV_B, UNSHARD, RESHARD or REDUCE_GRAD.
        stage: whose result leaves (SEND), who gets one (RECV), whose parameters or gradients (the others).
        microbatch: of a message; None for the others.

    Example:
        >>> str(Action("SEND_F", 2, 0)), str(Action("UNSHARD", 2))
        ('2SEND_F0', '2UNSHARD')
    """

    kind: ActionKind
    stage: int
    microbatch: int | None = None

    def __str__(self) -> str:
        return f"{self.stage}{self.kind}{'' if self.microbatch is None else self.microbatch}"


def write_cell(cell: Cell | Action) -> str:
    """A cell as text.

    Args:
        cell: a task, an overlap, an action, or None for idle.

    Returns:
        The text; `read_cell` reads it.

    Example:
        >>> write_cell(Overlap(Task("F", 2, 1), Task("B", 5, 0)))
        '(2F1;5B0)OVERLAP_F_B'
    """
    if cell is None:
        return ""
    return f"({cell.first};{cell.second})OVERLAP_F_B" if isinstance(cell, Overlap) else str(cell)


def read_cell(text: str) -> Cell | Action:
    """What a cell says.

    Args:
        text: the whole cell; spaces around it and around the two tasks of an overlap do not count.

    Returns:
        A task, an overlap, an action, or None for idle.

    Raises:
        ScheduleError: the text is anything else.

    Example:
        >>> read_cell("3RECV_F0")
        Action(kind='RECV_F', stage=3, microbatch=0)
    """
    text = text.strip(" \t")
    if not text:
        return None
    if (found := _single(text)) is not None:
        return found
    if match := _STAGE.fullmatch(text):
        return Action(cast(ActionKind, match[2]), int(match[1]))
    if match := _OVERLAP.fullmatch(text):
        return Overlap(*(_task(part) for part in match.groups()))
    raise _unknown(text)


def _task(text: str) -> Task:
    text = text.strip(" \t")
    found = _single(text)
    if found is None:
        raise _unknown(text)
    if not isinstance(found, Task):
        raise ScheduleError(f"{found} is no task; two at once are tasks, like (2F1;5B0)OVERLAP_F_B.")
    return found


def _single(text: str) -> Task | Action | None:
    """A task or a message; None if it is neither."""
    match = _SINGLE.fullmatch(text)
    if match is None:
        return None
    stage, kind, microbatch = int(match[1]), match[2], int(match[3])
    return Task(kind, stage, microbatch) if kind in KINDS else Action(cast(ActionKind, kind), stage, microbatch)


def _unknown(text: str) -> ScheduleError:
    return ScheduleError(f"{_shown(text)} is nothing that a schedule knows; {ALLOWED}.")


def _shown(text: str) -> str:
    """The beginning of a text as Python writes it, so that no character of a file reaches a terminal."""
    return ascii(text) if len(text) <= 40 else f"{ascii(text[:40])}..."
