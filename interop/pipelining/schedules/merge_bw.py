"""The pass that takes a backward in two parts together again where nothing stands between them."""

from funpipe.interop.pipelining.schedules.action import _Action
from funpipe.interop.pipelining.schedules.computation_type import BACKWARD_INPUT, BACKWARD_WEIGHT, FULL_BACKWARD
from funpipe.interop.pipelining.schedules.grid import Row, busy


def _merge_bw(compute_actions: Row) -> list[_Action]:
    """Replaces an I and the W right after it, of the same stage and microbatch, by one B.

    Args:
        compute_actions: of one rank; left as they are.

    Returns:
        A new row without idle cells.

    Example:
        >>> _merge_bw([_Action.from_str(text) for text in ("0I0", "0W0", "0I1", "0F2", "0W1")])
        [0B0, 0I1, 0F2, 0W1]
    """
    row: list[_Action] = []
    for action in busy(compute_actions):
        if row and _is_rest(row[-1], action):
            row[-1] = action._replace(computation_type=FULL_BACKWARD)
        else:
            row.append(action)
    return row


def _is_rest(before: _Action, action: _Action) -> bool:
    """Whether `action` is the W of the I before it."""
    kinds = (before.computation_type, action.computation_type)
    same = (before.stage_index, before.microbatch_index) == (action.stage_index, action.microbatch_index)
    return same and kinds == (BACKWARD_INPUT, BACKWARD_WEIGHT)
