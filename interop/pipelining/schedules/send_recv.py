"""The pass that puts messages between the computations of different ranks."""

from collections import deque
from collections.abc import Mapping

from funpipe.interop.pipelining.errors import PipeAssertionError
from funpipe.interop.pipelining.schedules.action import _Action, parts
from funpipe.interop.pipelining.schedules.formatting import _format_pipeline_order
from funpipe.interop.pipelining.schedules.grid import Rows
from funpipe.interop.pipelining.schedules.messages import StageToRank, is_there, other_end, sent_by


def _add_send_recv(compute_actions: Rows, stage_to_rank: StageToRank, num_stages: int) -> dict[int, list[_Action]]:
    """Adds a SEND after each computation whose result another rank needs, and its RECV on that rank.

    Ranks take turns, one cell each, as soon as what its action needs is there; an idle cell lets a turn pass. At the
    moment in which a SEND is put into one row its RECV is put into the other, so both ends of every pair of ranks have
    one order, and receives come early.

    Args:
        compute_actions: for each rank its actions; left as they are. Other actions than computations are kept.
        stage_to_rank: gives the rank of a stage.
        num_stages: of the pipeline.

    Returns:
        New rows without idle cells.

    Raises:
        PipeAssertionError: the ranks wait for each other.

    Example:
        >>> rows = {0: [_Action.from_str("0F0"), _Action.from_str("0B0")]}
        >>> rows[1] = [_Action.from_str("1F0"), _Action.from_str("1B0")]
        >>> _add_send_recv(rows, lambda stage: stage, 2)
        {0: [0F0, 0SEND_F0, 0RECV_B0, 0B0], 1: [1RECV_F0, 1F0, 1B0, 1SEND_B0]}
    """
    queues = {rank: deque(compute_actions[rank]) for rank in sorted(compute_actions)}
    found: dict[int, list[_Action]] = {rank: [] for rank in queues}
    done: dict[int, set[_Action]] = {rank: set() for rank in queues}
    while any(queues.values()):
        turns = [_turn(rank, queues[rank], found, done, stage_to_rank, num_stages) for rank in queues]
        if not any(turns):
            raise _malformed(queues)
    return found


def _turn(
    rank: int,
    queue: deque[_Action | None],
    found: dict[int, list[_Action]],
    done: dict[int, set[_Action]],
    stage_to_rank: StageToRank,
    num_stages: int,
) -> bool:
    """Moves a rank's next action to its row, with the messages that it causes, if what it needs is there."""
    if not queue or (queue[0] and not all(is_there(part, done[rank], num_stages) for part in parts(queue[0]))):
        return False
    action = queue.popleft()
    if action is None:
        return True
    found[rank].append(action)
    for part in parts(action):
        done[rank].add(part)
        if (send := sent_by(part, stage_to_rank, num_stages)) is not None:
            receive = other_end(send)
            peer = stage_to_rank(receive.stage_index)
            if peer not in found:
                raise PipeAssertionError(f"{send} goes to rank {peer}, which has no row; give its actions too.")
            found[rank].append(send)
            found[peer].append(receive)
            done[peer].add(receive)
    return True


def _malformed(queues: Mapping[int, deque[_Action | None]]) -> PipeAssertionError:
    left = {rank: list(queue) for rank, queue in queues.items() if queue}
    waiting = ", ".join(f"{row[0]} on rank {rank}" for rank, row in list(left.items())[:8])
    return PipeAssertionError(
        f"Malformed compute schedule, can't schedule sends/recvs: {waiting} cannot run, since what it needs comes "
        f"later or never. What is left:\n{_format_pipeline_order(left)}Reorder the rows."
    )
