"""How a kind of action looks in a picture: its colour, its name in the legend, and how many columns it takes."""

from dataclasses import dataclass

from funpipe.interop.pipelining.schedules.action import _Action
from funpipe.interop.pipelining.schedules.computation_type import (
    BACKWARD_INPUT,
    BACKWARD_WEIGHT,
    FORWARD,
    FULL_BACKWARD,
    OVERLAP_F_B,
    RECV_B,
    RECV_F,
    REDUCE_GRAD,
    RESHARD,
    SEND_B,
    SEND_F,
    UNSHARD,
    _ComputationType,
)


@dataclass(frozen=True)
class _ComputationTypeVisual:
    """The looks of a kind of action.

    Args:
        color: as matplotlib knows it.
        text: its name in the legend.
        width: columns; the width of a forward is one.
    """

    color: str
    text: str = ""
    width: int = 1


action_type_to_color_mapping: dict[_ComputationType, _ComputationTypeVisual] = {
    FORWARD: _ComputationTypeVisual("#7fb3e6", "Forward"),
    BACKWARD_INPUT: _ComputationTypeVisual("#7fcdbb", "Backward Input"),
    BACKWARD_WEIGHT: _ComputationTypeVisual("#b7a6e0", "Backward Weight"),
    FULL_BACKWARD: _ComputationTypeVisual("#f2b27a", "Full Backward", 2),
    OVERLAP_F_B: _ComputationTypeVisual("#e8877f", "Overlap F+B", 3),
    SEND_F: _ComputationTypeVisual("#d5e5f5", "Send Forward"),
    RECV_F: _ComputationTypeVisual("#c3d9ef", "Receive Forward"),
    SEND_B: _ComputationTypeVisual("#f9e2cb", "Send Backward"),
    RECV_B: _ComputationTypeVisual("#f5d3b3", "Receive Backward"),
    UNSHARD: _ComputationTypeVisual("#dddddd", "Unshard"),
    RESHARD: _ComputationTypeVisual("#c8c8c8", "Reshard"),
    REDUCE_GRAD: _ComputationTypeVisual("#efd97a", "Reduce Gradients"),
}
"""The looks of each kind."""


def width_of(action: _Action | None) -> int:
    """How many columns a cell takes; an idle one takes one."""
    return 1 if action is None else action_type_to_color_mapping[action.computation_type].width
