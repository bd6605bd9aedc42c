"""A dry run of a schedule with communication: who can run what at which step, and whether ranks wait for ever."""

from collections import deque
from collections.abc import Mapping

from funpipe.interop.pipelining.errors import PipeValueError
from funpipe.interop.pipelining.schedules.action import _Action, parts
from funpipe.interop.pipelining.schedules.computation_type import RECEIVES, SENDS
from funpipe.interop.pipelining.schedules.formatting import _format_pipeline_order
from funpipe.interop.pipelining.schedules.grid import Rows, busy
from funpipe.interop.pipelining.schedules.messages import StageToRank, is_there, makers_of, other_end

_Queues = Mapping[int, deque[_Action]]
_Done = Mapping[int, set[_Action]]


def _simulate_comms_compute(
    pipeline_order: Rows, stage_to_rank: StageToRank, num_stages: int
) -> dict[int, list[_Action | None]]:
    """Runs the rows in steps: in each of them every rank runs its next action, if it can, or waits.

    A computation can run when what it needs came in an earlier step, or was made on its rank; an overlap when both of
    its parts can. A SEND can run after its computation, and a RECV together with its SEND or later. Gathering, letting
    go and reducing take a step and wait for nothing. Nothing runs beside something else on a rank.

    Args:
        pipeline_order: for each rank its actions with communication; left as they are. Idle cells are passed over.
        stage_to_rank: gives the rank of a stage.
        num_stages: of the pipeline.

    Returns:
        For each rank its actions at their steps, None where it waits; the longest row is the number of steps.

    Raises:
        PipeValueError: from some step on, no rank can run anything.

    Example:
        >>> rows = {0: [_Action.from_str("0F0"), _Action.from_str("0SEND_F0")]}
        >>> rows[1] = [_Action.from_str("1RECV_F0"), _Action.from_str("1F0")]
        >>> _simulate_comms_compute(rows, lambda stage: stage, 2)
        {0: [0F0, 0SEND_F0], 1: [None, 1RECV_F0, 1F0]}
    """
    queues = {rank: deque(busy(pipeline_order[rank])) for rank in sorted(pipeline_order)}
    found: dict[int, list[_Action | None]] = {rank: [] for rank in queues}
    done: dict[int, set[_Action]] = {rank: set() for rank in queues}
    while any(queues.values()):
        ready = _ready(queues, done, stage_to_rank, num_stages)
        if not ready:
            raise _stuck(queues, found)
        for rank, queue in queues.items():
            if queue:
                found[rank].append(queue[0] if rank in ready else None)
        for rank in ready:
            done[rank].update(parts(queues[rank].popleft()))
    return found


def _ready(queues: _Queues, done: _Done, stage_to_rank: StageToRank, num_stages: int) -> set[int]:
    """The ranks whose next action can run in this step."""
    heads = {rank: queue[0] for rank, queue in queues.items() if queue}
    ready = {
        rank
        for rank, head in heads.items()
        if head.computation_type not in RECEIVES and _can_run(head, done[rank], num_stages)
    }
    for rank, head in heads.items():
        if head.computation_type in RECEIVES:
            send = other_end(head)
            peer = stage_to_rank(send.stage_index)
            if send in done.get(peer, ()) or (peer in ready and heads[peer] == send):
                ready.add(rank)
    return ready


def _can_run(action: _Action, done: set[_Action], num_stages: int) -> bool:
    if action.computation_type in SENDS:
        return any(maker in done for maker in makers_of(action))
    return all(is_there(part, done, num_stages) for part in parts(action))


def _stuck(queues: _Queues, found: Mapping[int, list[_Action | None]]) -> PipeValueError:
    waiting = "".join(f"rank={rank} next action= {queue[0]}\n" for rank, queue in queues.items() if queue)
    return PipeValueError(
        f"Schedule is not progressing; what ran until then:\n{_format_pipeline_order(found)}\nwhat waits:\n{waiting}"
        "Put what each of these needs before it."
    )
