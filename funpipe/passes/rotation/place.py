"""Where the tail of the last step runs in the next one: each node just before the first that needs it.

    head:   h0   h1   h2   h3            h2 reads what t1 makes, and t1 reads t0
    main:   h0   h1   t0 t1  h2   h3     t0 and t1 are as late as that allows

In a pipelined step collectives of several stages must not wait for a message of this step, which may itself wait for
them on another rank: what starts them comes first of all.
"""

from collections.abc import Iterable, Mapping, Sequence

from funpipe._errors import RotateError
from funpipe.graphs.communication import axis_of, is_message, is_start
from funpipe.graphs.near import near
from funpipe.graphs.node import Node
from funpipe.graphs.order import predecessors


def placed(
    head: Sequence[Node], tail: Sequence[Node], before: str | None, leaves: Mapping[str, str] | None = None
) -> tuple[Node, ...]:
    """The nodes of head and tail in one order.

    Args:
        head: the nodes of this step, in order.
        tail: those of the last step, in order; they read nothing of the head.
        before: the node of the head in front of which the whole tail runs; None: by data flow. What nothing in the head
            needs comes last then.
        leaves: for messages, the leaf of the state that each value of the tail is.

    Returns:
        All nodes. Head and tail each keep the order of their collectives.

    Raises:
        RotateError: `before` is no node of the head, or the tail would come too late there.
    """
    if before is not None:
        at = _position(head, tail, before)
        _require_behind(head[:at], tail, before, leaves or {})
        _require_no_message(head, head[:at], tail, before)
        return (*head[:at], *tail, *head[at:])
    taken = _Taken(tail)
    ordered = taken.with_all_before(_across_stages(head, tail))
    for node in head:
        ordered += taken.with_all_before(node.reads)
        ordered.append(node)
    return (*ordered, *taken.with_all_before(node.name for node in tail))


class _Taken:
    """The nodes of the tail, each of which is taken once."""

    def __init__(self, tail: Sequence[Node]) -> None:
        self.tail = tail
        self.needed = predecessors(tail)
        self.position = {node.name: i for i, node in enumerate(tail)}
        self.done: set[str] = set()

    def with_all_before(self, names: Iterable[str]) -> list[Node]:
        """The nodes of the tail among these names and all that must run before them, in order, without those taken."""
        waiting = [name for name in names if name in self.position]
        found: list[int] = []
        while waiting:
            name = waiting.pop()
            if name not in self.done:
                self.done.add(name)
                found.append(self.position[name])
                waiting += self.needed[name]
        return [self.tail[i] for i in sorted(found)]


def _across_stages(head: Sequence[Node], tail: Sequence[Node]) -> list[str]:
    """The starts of the tail in which several stages of a pipelined step take part."""
    if not any(is_message(node) for node in head):
        return []
    return [node.name for node in tail if is_start(node) and axis_of(node) != "dp"]


def _position(head: Sequence[Node], tail: Sequence[Node], before: str) -> int:
    names = [node.name for node in head]
    if before in names:
        return names.index(before)
    if any(node.name == before for node in tail):
        raise RotateError(
            f"before={before!r} is itself deferred: name a node that stays in its step, or leave before out to place "
            "the deferred work by data flow."
        )
    raise RotateError(f"before={before!r} is no node of the graph; {near(before, names)}")


def _require_behind(front: Sequence[Node], tail: Sequence[Node], before: str, leaves: Mapping[str, str]) -> None:
    """Nothing in front of the place reads what the tail makes."""
    makers = {node.name: node for node in tail}
    for node in front:
        for name in node.reads:
            if name in makers:
                what = f"{leaves[name]!r}, which is %{name} of the last step" if name in leaves else f"%{name}"
                raise RotateError(
                    f"{node.where} reads {what}, and stands in front of before={before!r}, so it would read a stale "
                    f"value: {makers[name].where} is deferred up to there. Use before={node.name!r} or a node in front "
                    "of it, or leave before out to place the deferred work by data flow."
                )


def _require_no_message(head: Sequence[Node], front: Sequence[Node], tail: Sequence[Node], before: str) -> None:
    """What starts collectives of several stages comes in front of all messages."""
    across = _across_stages(head, tail)
    message = next((node for node in front if is_message(node)), None)
    if across and message is not None:
        raise RotateError(
            f"before={before!r} stands behind {message.where}, but the deferred {across[0]!r} is a collective of "
            f"several stages, and another one may wait for it before it answers: use before={message.name!r} or a node "
            "in front of it, or leave before out."
        )
