"""The pass that says when a stage's parameters are gathered, and when they are let go."""

from funpipe.interop.pipelining.schedules.action import _Action, parts
from funpipe.interop.pipelining.schedules.computation_type import RESHARD, UNSHARD
from funpipe.interop.pipelining.schedules.grid import Row, busy


def _add_unshard_reshard(compute_actions: Row, max_active_stages: int = 3) -> list[_Action]:
    """Adds an UNSHARD before the first action of a stage, and a RESHARD when other stages come first.

    Before each action the parameters are there of the stages that run from it on, the nearest first: as many as
    `max_active_stages`, or one more where the last of them runs in an overlap with another.

    Args:
        compute_actions: of one rank; left as they are.
        max_active_stages: stages whose parameters are there at once: one for a forward, one for a backward, one that
            is on its way.

    Returns:
        A new row without idle cells.

    Example:
        >>> _add_unshard_reshard([_Action.from_str(text) for text in ("0F0", "2F0", "2B0", "0B0")], 1)
        [0UNSHARD, 0F0, 0RESHARD, 2UNSHARD, 2F0, 2B0, 2RESHARD, 0UNSHARD, 0B0, 0RESHARD]
    """
    actions = busy(compute_actions)
    held: list[int] = []
    row: list[_Action] = []
    for action, wanted in zip(actions, _next_stages(actions, max_active_stages), strict=True):
        row += (_Action(stage, RESHARD) for stage in sorted(held) if stage not in wanted)
        row += (_Action(stage, UNSHARD) for stage in wanted if stage not in held)
        row.append(action)
        held = wanted
    return row + [_Action(stage, RESHARD) for stage in sorted(held)]


def _next_stages(actions: list[_Action], most: int) -> list[list[int]]:
    """For each action the stages that run from it on, the nearest first; both stages of an overlap, or neither.

    Built from the end, so that it takes as long as there are actions: the groups of stages that come next are those of
    the action itself, then those that were next after it, each stage once.
    """
    upcoming: list[tuple[int, ...]] = []
    found = []
    for action in reversed(actions):
        own = tuple(dict.fromkeys(part.stage_index for part in parts(action)))
        later = [group for group in upcoming if not set(group) <= set(own)]
        upcoming = _enough([own, *later], most)
        found.append(list(dict.fromkeys(stage for group in upcoming for stage in group)))
    return found[::-1]


def _enough(groups: list[tuple[int, ...]], most: int) -> list[tuple[int, ...]]:
    """As many of the first groups as it takes to name `most` stages."""
    named: set[int] = set()
    for count, group in enumerate(groups):
        if len(named) >= most:
            return groups[:count]
        named |= set(group)
    return groups
