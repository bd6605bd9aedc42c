"""Which message an action sends, which it waits for, and how the two ends of a message are called."""

from collections.abc import Callable, Collection
from typing import NamedTuple

from funpipe.interop.pipelining.schedules.action import _Action
from funpipe.interop.pipelining.schedules.computation_type import (
    BACKWARD_INPUT,
    BACKWARD_WEIGHT,
    FORWARD,
    FULL_BACKWARD,
    RECV_B,
    RECV_F,
    SEND_B,
    SEND_F,
    _ComputationType,
)

StageToRank = Callable[[int], int]
"""Gives the rank of a stage."""


class _Way(NamedTuple):
    """What a kind of computation sends to the stage `step` further, and receives from the one `step` before it."""

    step: int
    send: _ComputationType
    receive: _ComputationType


_WAYS = {
    FORWARD: _Way(+1, SEND_F, RECV_F),
    FULL_BACKWARD: _Way(-1, SEND_B, RECV_B),
    BACKWARD_INPUT: _Way(-1, SEND_B, RECV_B),
}
_STEPS = {SEND_F: +1, RECV_F: -1, SEND_B: -1, RECV_B: +1}
_OTHER_ENDS = {SEND_F: RECV_F, RECV_F: SEND_F, SEND_B: RECV_B, RECV_B: SEND_B}
_OWN = {FULL_BACKWARD: (FORWARD,), BACKWARD_INPUT: (FORWARD,), BACKWARD_WEIGHT: (BACKWARD_INPUT,)}
"""What a computation needs of its own stage."""
_SAME_RESULT = {FORWARD: (FORWARD,), FULL_BACKWARD: (FULL_BACKWARD, BACKWARD_INPUT)}
_SAME_RESULT[BACKWARD_INPUT] = _SAME_RESULT[FULL_BACKWARD]


def peer_of(action: _Action) -> int:
    """The stage at the other end of a SEND or a RECV."""
    return action.stage_index + _STEPS[action.computation_type]


def other_end(action: _Action) -> _Action:
    """The RECV of a SEND, and the SEND of a RECV.

    Example:
        >>> other_end(_Action.from_str("2SEND_F0")), other_end(_Action.from_str("2RECV_B0"))
        (3RECV_F0, 3SEND_B0)
    """
    return action._replace(stage_index=peer_of(action), computation_type=_OTHER_ENDS[action.computation_type])


def sent_by(action: _Action, stage_to_rank: StageToRank, num_stages: int) -> _Action | None:
    """The SEND that follows a computation; None where its result stays on the rank, or nobody needs it."""
    way = _WAYS.get(action.computation_type)
    peer = action.stage_index + (way.step if way else 0)
    if way is None or not 0 <= peer < num_stages or stage_to_rank(peer) == stage_to_rank(action.stage_index):
        return None
    return _Action(action.stage_index, way.send, action.microbatch_index)


def makers_of(send: _Action) -> list[_Action]:
    """The computations of which any makes what a SEND sends.

    Example:
        >>> makers_of(_Action.from_str("2SEND_B0"))
        [2B0, 2I0]
    """
    kinds = [kind for kind, way in _WAYS.items() if way.send == send.computation_type]
    return [send._replace(computation_type=kind) for kind in kinds]


def received_by(action: _Action) -> _Action | None:
    """The RECV that brings what a computation needs, wherever it is made; None for what needs nothing."""
    way = _WAYS.get(action.computation_type)
    return None if way is None else _Action(action.stage_index, way.receive, action.microbatch_index)


def makers_awaited(action: _Action, stages: Collection[int]) -> list[list[_Action]]:
    """What must have run anywhere before a computation: for each thing that it needs the actions that make it.

    Args:
        action: no overlap; what is no computation needs nothing.
        stages: all there are.

    Example:
        >>> makers_awaited(_Action.from_str("0B1"), {0, 1})
        [[0F1], [1B1, 1I1]]
    """
    own = _OWN.get(action.computation_type, ())
    way = _WAYS.get(action.computation_type)
    source = action.stage_index - (way.step if way else 0)
    others = _SAME_RESULT[action.computation_type] if way and source in stages else ()
    found = [(action.stage_index, own), (source, others)]
    return [[_Action(stage, kind, action.microbatch_index) for kind in kinds] for stage, kinds in found if kinds]


def is_there(action: _Action, done: Collection[_Action], num_stages: int) -> bool:
    """Whether what a computation needs of another stage is on its rank.

    Args:
        action: no overlap; whatever is not F, B or I needs nothing.
        done: the actions that its rank has run, those of overlaps one by one.
        num_stages: of the pipeline.

    Example:
        >>> is_there(_Action.from_str("1F0"), [_Action.from_str("0F0")], 2), is_there(_Action.from_str("0B0"), [], 2)
        (True, False)
    """
    way = _WAYS.get(action.computation_type)
    source = action.stage_index - (way.step if way else 0)
    if way is None or not 0 <= source < num_stages:
        return True
    made = (_Action(source, kind, action.microbatch_index) for kind in _SAME_RESULT[action.computation_type])
    return received_by(action) in done or any(action in done for action in made)
