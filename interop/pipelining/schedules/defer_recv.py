"""The pass that moves receives to where their values are needed."""

from collections import deque
from collections.abc import Iterator

from funpipe.interop.pipelining.errors import PipeAssertionError
from funpipe.interop.pipelining.schedules.action import _Action, parts
from funpipe.interop.pipelining.schedules.computation_type import RECEIVES, SENDS
from funpipe.interop.pipelining.schedules.grid import Rows, busy
from funpipe.interop.pipelining.schedules.messages import StageToRank, peer_of, received_by


def _defer_recv_ops(actions: Rows, stage_to_rank: StageToRank) -> dict[int, list[_Action]]:
    """Moves each RECV to right before the computation that needs it, and no further than is safe.

    Two things hold a RECV back. Of two ranks that send to each other the lower one receives first: before it sends,
    it receives what is on its way from that rank. And messages between two ranks arrive in the order in which they
    were sent, whatever a RECV asks for: before a RECV come those from the same rank that stood before it.

    Args:
        actions: for each rank its actions with communication; left as they are.
        stage_to_rank: gives the rank of a stage.

    Returns:
        New rows without idle cells.

    Raises:
        PipeAssertionError: nothing needs what a RECV brings.

    Example:
        >>> row = [_Action.from_str(text) for text in ("1RECV_F0", "1RECV_F1", "1F0", "1F1")]
        >>> _defer_recv_ops({1: row}, lambda stage: stage)
        {1: [1RECV_F0, 1F0, 1RECV_F1, 1F1]}
    """
    return {rank: _deferred(rank, busy(actions[rank]), stage_to_rank) for rank in actions}


def _deferred(rank: int, row: list[_Action], stage_to_rank: StageToRank) -> list[_Action]:
    waiting: dict[int, deque[_Action]] = {}
    found: list[_Action] = []
    for action in row:
        if action.computation_type in RECEIVES:
            waiting.setdefault(stage_to_rank(peer_of(action)), deque()).append(action)
            continue
        found += _due(rank, action, waiting, stage_to_rank)
        found.append(action)
    if any(waiting.values()):
        left = [action for queue in waiting.values() for action in queue]
        raise PipeAssertionError(
            f"Malformed input schedule on rank {rank}: leftover RECV ops with no consumer found: {left}. Every RECV "
            "must be consumed by a downstream compute op."
        )
    return found


def _due(
    rank: int, action: _Action, waiting: dict[int, deque[_Action]], stage_to_rank: StageToRank
) -> Iterator[_Action]:
    """Takes out the receives that must come before an action."""
    if action.computation_type in SENDS:
        peer = stage_to_rank(peer_of(action))
        while rank < peer and waiting.get(peer):
            yield waiting[peer].popleft()
    for part in parts(action):
        wanted = received_by(part)
        for queue in waiting.values():
            while wanted in queue:
                yield queue.popleft()
