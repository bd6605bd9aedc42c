"""A table's rows with what other runtimes write down besides tasks: messages, and parameters that come and go.

The tasks of rank 0 and 1, one stage each, one microbatch, become

    0UNSHARD 0F0 0SEND_F0 0RECV_B0 0B0 0REDUCE_GRAD 0RESHARD
    1UNSHARD 1RECV_F0 1F0 1B0 1SEND_B0 1REDUCE_GRAD 1RESHARD

A program of funpipe places its own communication and needs none of this; it is for files that others read.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from funpipe._errors import ScheduleError
from funpipe.schedules.actions import Action, ActionKind
from funpipe.schedules.task import Kind, Overlap, Task

Item = Task | Overlap | Action

STAGES_AT_ONCE = 3
"""Stages of a rank whose parameters are there at once: one for a forward, one for a backward, one on its way."""


class Message(NamedTuple):
    """Which tasks a message belongs to, how far away the stage at its other end is, and what that end is called."""

    tasks: tuple[Kind, ...]
    step: int
    other_end: ActionKind


MESSAGES: dict[ActionKind, Message] = {
    "SEND_F": Message(("F",), +1, "RECV_F"),
    "RECV_F": Message(("F",), -1, "SEND_F"),
    "SEND_B": Message(("B", "I"), -1, "RECV_B"),
    "RECV_B": Message(("B", "I"), +1, "SEND_B"),
}


def parts(item: Item) -> tuple[Task, ...]:
    """The tasks of an item of a row: one, two of an overlap, none of an action."""
    if isinstance(item, Overlap):
        return tuple(item)
    return (item,) if isinstance(item, Task) else ()


def sent_by(task: Task, placement: Sequence[int]) -> Action | None:
    """The send that follows a task; None where its result stays on the rank or nobody needs it."""
    sends: dict[str, ActionKind] = {"F": "SEND_F", "B": "SEND_B", "I": "SEND_B"}
    if task.kind not in sends:
        return None
    send = Action(sends[task.kind], task.stage, task.microbatch)
    peer = task.stage + MESSAGES[send.kind].step
    stays = not 0 <= peer < len(placement) or placement[peer] == placement[task.stage]
    return None if stays else send


def other_end(action: Action) -> Action:
    """The receive of a send, and the send of a receive; its stage may not exist."""
    message = MESSAGES[action.kind]
    return Action(message.other_end, action.stage + message.step, action.microbatch)


def with_communication(orders: Sequence[Sequence[Task | Overlap]], placement: Sequence[int]) -> list[list[Item]]:
    """The rows of a table with all their communication.

    Ranks take turns, one task each, as soon as what it needs is there. A task's send follows it at once, and its
    receive is put into the other rank's row at that moment: so both ends of every pair of ranks have one order.

    Args:
        orders: for each rank what it runs, in order.
        placement: the rank of each stage.

    Returns:
        The rows, without idle cells.

    Raises:
        ScheduleError: the ranks wait for each other.

    Example:
        >>> from funpipe.schedules import GPipe
        >>> table = GPipe().table(2, 1)
        >>> for row in with_communication([table.order(0), table.order(1)], table.placement):
        ...     print(*row)
        0UNSHARD 0F0 0SEND_F0 0RECV_B0 0B0 0REDUCE_GRAD 0RESHARD
        1UNSHARD 1RECV_F0 1F0 1B0 1SEND_B0 1REDUCE_GRAD 1RESHARD
    """
    queues = [deque(_with_reduced_gradients(_with_parameters(order))) for order in orders]
    rows: list[list[Item]] = [[] for _ in orders]
    there: list[set[Item]] = [set() for _ in orders]
    while any(queues):
        turns = [_turn(rank, queue, rows, there, placement) for rank, queue in enumerate(queues)]
        if not any(turns):
            raise ScheduleError(
                "the ranks of the table wait for each other, so its messages have no order: "
                "fp.schedules.check(table) shows where; reorder the rows."
            )
    return rows


def _turn(
    rank: int, queue: deque[Item], rows: list[list[Item]], there: list[set[Item]], placement: Sequence[int]
) -> bool:
    """Moves a rank's next item to its row, with the messages that it causes, if what it needs is there."""
    if not queue or not all(_ready(task, there[rank], len(placement)) for task in parts(queue[0])):
        return False
    rows[rank].append(item := queue.popleft())
    for task in parts(item):
        there[rank].add(task)
        if (send := sent_by(task, placement)) is not None:
            receive = other_end(send)
            peer = placement[receive.stage]
            rows[rank].append(send)
            rows[peer].append(receive)
            there[peer].add(receive)
    return True


def _ready(task: Task, there: set[Item], num_stages: int) -> bool:
    """Whether what a task needs of another stage came as a message or was made on the rank."""
    stage, i = task.stage, task.microbatch
    if task.kind == "F" and stage > 0:
        return bool(there & {Action("RECV_F", stage, i), Task("F", stage - 1, i)})
    if task.kind in ("B", "I") and stage < num_stages - 1:
        made = {Task("B", stage + 1, i), Task("I", stage + 1, i)}
        return bool(there & {Action("RECV_B", stage, i), *made})
    return True


def _with_reduced_gradients(items: Sequence[Item]) -> Iterator[Item]:
    """After a stage's last gradient of the weights, its gradients are reduced."""
    last = {t.stage: t for item in items for t in parts(item) if t.kind in ("B", "W")}
    for item in items:
        yield item
        yield from (Action("REDUCE_GRAD", t.stage) for t in parts(item) if last.get(t.stage) == t)


def _with_parameters(order: Sequence[Task | Overlap]) -> list[Item]:
    """Before each item the parameters of the stages that come next are gathered, and those of others are let go."""
    items: list[Item] = []
    held: list[int] = []
    for item, wanted in zip(order, _next_stages(order), strict=True):
        items += (Action("RESHARD", stage) for stage in sorted(held) if stage not in wanted)
        items += (Action("UNSHARD", stage) for stage in wanted if stage not in held)
        items.append(item)
        held = wanted
    return items + [Action("RESHARD", stage) for stage in sorted(held)]


def _next_stages(order: Sequence[Task | Overlap]) -> list[list[int]]:
    """For each item the stages that run from it on, the nearest first; at most `STAGES_AT_ONCE`."""
    nearest: list[int] = []
    found = []
    for item in reversed(order):
        own = list(dict.fromkeys(task.stage for task in parts(item)))
        nearest = own + [stage for stage in nearest if stage not in own]
        found.append(nearest[:STAGES_AT_ONCE])
    return found[::-1]
