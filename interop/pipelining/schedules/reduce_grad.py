"""The pass that says when a stage's gradients are complete."""

from collections import Counter

from funpipe.interop.pipelining.schedules.action import _Action, parts
from funpipe.interop.pipelining.schedules.computation_type import REDUCE_GRAD, _requires_reduce_grad
from funpipe.interop.pipelining.schedules.grid import Row


def _add_reduce_grad(actions: Row, n_microbatches: int) -> list[_Action | None]:
    """Adds a REDUCE_GRAD for each stage right after its last gradient of the weights.

    Args:
        actions: of one rank; left as they are. Idle cells stay.
        n_microbatches: how many gradients of the weights a stage has in a step.

    Returns:
        A new row. A stage that has its REDUCE_GRAD already gets no other.

    Example:
        >>> _add_reduce_grad([_Action.from_str(text) for text in ("0F0", "0B0", "0F1", "0B1", "0RESHARD")], 2)
        [0F0, 0B0, 0F1, 0B1, 0REDUCE_GRAD, 0RESHARD]
    """
    there = {action.stage_index for action in actions if action and action.computation_type == REDUCE_GRAD}
    seen: Counter[int] = Counter()
    row: list[_Action | None] = []
    for action in actions:
        row.append(action)
        for part in parts(action) if action else ():
            if _requires_reduce_grad(part.computation_type):
                seen[part.stage_index] += 1
                if seen[part.stage_index] == n_microbatches and part.stage_index not in there:
                    row.append(_Action(part.stage_index, REDUCE_GRAD))
    return row


def without_reduce_grad(actions: Row) -> list[_Action | None]:
    """A row as it was before `_add_reduce_grad`."""
    return [action for action in actions if action is None or action.computation_type != REDUCE_GRAD]
