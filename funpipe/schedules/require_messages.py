"""Whether the communication that a file gives is the one that its tasks need.

A program places its own communication, so what is read here is checked and dropped: nothing runs by it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, cast

from funpipe._errors import ScheduleError
from funpipe.schedules.actions import Action
from funpipe.schedules.messages import MESSAGES, Item, other_end, parts, sent_by
from funpipe.schedules.task import Task


class Place(NamedTuple):
    """A cell of a file: the rank whose row it is in and the column, both from 0."""

    rank: int
    column: int


_Placed = tuple[Place, Action]

Where = Callable[[Place], str]
"""How a place is called in an error."""


def require_messages(items: Sequence[tuple[Place, Item]], placement: Sequence[int], where: Where) -> None:
    """Raises unless the actions among the cells fit the tasks.

    Args:
        items: the cells that are not idle, in the order of their places.
        placement: the rank of each stage; every task is on it.
        where: names a place.

    Raises:
        ScheduleError: an action on a rank that does not hold its stage, or a second time; a send before the task that
            makes its value, or a receive after the task that needs it; one end of a message without the other, or in
            another order than there; parameters that are missing while a task needs them.
    """
    actions = [cast(_Placed, placed) for placed in items if isinstance(placed[1], Action)]
    if not actions:
        return
    for place, action in actions:
        if action.stage >= len(placement) or placement[action.stage] != place.rank:
            raise _fault(
                where, place, action, "no task of its stage is in this row", "move it to the row that has them"
            )
    _require_held(items, where)
    messages = [placed for placed in actions if placed[1].kind in MESSAGES]
    if messages:
        _require_messages(messages, items, placement, where)
    _require_reduced_last(items, where)


def _fault(where: Where, place: Place, action: object, what: str, remedy: str) -> ScheduleError:
    return ScheduleError(f"{where(place)}: {action}: {what}; {remedy}.")


def _require_messages(
    messages: Sequence[_Placed],
    items: Sequence[tuple[Place, Item]],
    placement: Sequence[int],
    where: Where,
) -> None:
    places: dict[Action, Place] = {}
    for place, action in messages:
        if action in places:
            raise _fault(where, place, action, f"a second time, after {where(places[action])}", "remove one of the two")
        places[action] = place
    tasks = {task: place for place, item in items for task in parts(item)}
    for place, action in messages:
        end = other_end(action)
        _require_needed(place, action, end.stage, placement, where)
        _require_at_its_task(place, action, tasks, where)
        if end not in places:
            row = placement[end.stage] + 1
            raise _fault(where, place, action, "it has no other end", f"add {end} to row {row}")
    _require_sent(tasks, places, placement, where)
    _require_one_order(messages, placement, where)


def _require_needed(place: Place, action: Action, peer: int, placement: Sequence[int], where: Where) -> None:
    """The message's other end is a stage of another rank."""
    if not 0 <= peer < len(placement):
        raise _fault(where, place, action, "there is no stage at its other end", "remove it")
    if placement[peer] == place.rank:
        raise _fault(where, place, action, "the stage at its other end is on this rank, too", "remove it")


def _require_at_its_task(place: Place, action: Action, tasks: Mapping[Task, Place], where: Where) -> None:
    """A send comes after the task that makes its value, a receive before the one that uses it."""
    named = [Task(kind, action.stage, action.microbatch or 0) for kind in MESSAGES[action.kind].tasks]
    task = next((task for task in named if task in tasks), None)
    if task is None:
        what = f"there is no {' or '.join(map(str, named))}"
        raise _fault(where, place, action, what, "remove it, or add that task")
    sends = action.kind.startswith("SEND")
    if (tasks[task] < place) != sends:
        role, side = ("whose result it sends", "after") if sends else ("which needs it", "before")
        what = f"{task}, {role}, is in column {tasks[task].column + 1}"
        raise _fault(where, place, action, what, f"move it {side} {task}")


def _require_sent(
    tasks: Mapping[Task, Place], places: Mapping[Action, Place], placement: Sequence[int], where: Where
) -> None:
    """With any message in a file, every result that another rank needs is sent."""
    for task, place in tasks.items():
        send = sent_by(task, placement)
        if send is not None and send not in places:
            remedy = f"add {send} after it, and {other_end(send)} to row {placement[other_end(send).stage] + 1}"
            raise _fault(where, place, task, "its result is never sent", remedy)


def _require_one_order(messages: Sequence[_Placed], placement: Sequence[int], where: Where) -> None:
    """Between two ranks messages arrive as they leave, and receives do not say which one they want."""
    sent, received = defaultdict(list), defaultdict(list)
    for place, action in messages:
        peer = placement[action.stage + MESSAGES[action.kind].step]
        if action.kind.startswith("SEND"):
            sent[place.rank, peer].append(action)
        else:
            received[peer, place.rank].append((place, action))
    for edge, arrivals in received.items():
        for (place, action), send in zip(arrivals, sent[edge], strict=True):
            if other_end(send) != action:
                what = f"the next message from rank {edge[0]} is {send}"
                raise _fault(where, place, action, what, f"put {other_end(send)} here, or that send elsewhere")


def _require_held(items: Sequence[tuple[Place, Item]], where: Where) -> None:
    """Parameters are gathered and let go in turns, and are there while a task needs them."""
    counted = {item.stage for _, item in items if isinstance(item, Action) and item.kind in ("UNSHARD", "RESHARD")}
    held: set[int] = set()
    for place, item in items:
        if isinstance(item, Action) and item.kind in ("UNSHARD", "RESHARD"):
            _require_turn(place, item, item.stage in held, where)
            held ^= {item.stage}
        for task in parts(item):
            if task.stage in counted - held:
                gather = Action("UNSHARD", task.stage)
                raise _fault(where, place, task, "its stage's parameters are not there", f"put {gather} before it")


def _require_turn(place: Place, action: Action, held: bool, where: Where) -> None:
    if (action.kind == "RESHARD") != held:
        what = f"its stage's parameters are {'already' if held else 'not'} there"
        raise _fault(where, place, action, what, "remove it")


def _require_reduced_last(items: Sequence[tuple[Place, Item]], where: Where) -> None:
    """Gradients are reduced once for each stage, when nothing is added to them any more."""
    reduced: dict[int, Place] = {}
    for place, action in _of_kind(items, "REDUCE_GRAD"):
        if action.stage in reduced:
            what = f"a second time, after {where(reduced[action.stage])}"
            raise _fault(where, place, action, what, "remove one of the two")
        reduced[action.stage] = place
    for place, item in items:
        for task in parts(item):
            if task.kind in ("B", "W") and task.stage in reduced and reduced[task.stage] < place:
                reduce = Action("REDUCE_GRAD", task.stage)
                raise _fault(where, reduced[task.stage], reduce, f"{task} comes after it", f"move it after {task}")


def _of_kind(items: Sequence[tuple[Place, Item]], kind: str) -> Iterator[tuple[Place, Action]]:
    return ((place, item) for place, item in items if isinstance(item, Action) and item.kind == kind)
