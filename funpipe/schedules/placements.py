"""Which rank each stage is on: the ways that schedules go round the ranks, and a map of the user's own."""

from collections.abc import Mapping, Sequence

import numpy as np

from funpipe._errors import ScheduleError
from funpipe.schedules.constraints import at_least, ranks_of_stages
from funpipe.schedules.task import Kind


def loop(num_ranks: int, stages_per_rank: int, schedule: object) -> tuple[int, ...]:
    """Round and round: stage s on rank s mod p, for a schedule, which an error names.

    Example:
        >>> loop(num_ranks=3, stages_per_rank=2, schedule="mine")
        (0, 1, 2, 0, 1, 2)
    """
    v = at_least(1, stages_per_rank, "stages_per_rank", schedule)
    return tuple(range(at_least(1, num_ranks, "num_ranks", schedule))) * v


def vee(num_ranks: int) -> tuple[int, ...]:
    """Down and up again, so that the first and the last stage share a rank: two stages per rank.

    Example:
        >>> vee(num_ranks=3)
        (0, 1, 2, 2, 1, 0)
    """
    down = tuple(range(num_ranks))
    return down + down[::-1]


def along_vee(down: Mapping[Kind, np.ndarray], up: Mapping[Kind, np.ndarray]) -> dict[Kind, np.ndarray]:
    """The slots of all stages of a V, from 0, from those of the ranks' first stages and of their second ones.

    Args:
        down: for each kind an integer array of shape (num_ranks, num_microbatches), for the stages on the way down.
        up: the same for the stages on the way up, also in the order of the ranks.

    Returns:
        For each kind an array of shape (2 * num_ranks, num_microbatches).
    """
    begin = min(slot.min() for slot in (*down.values(), *up.values()))
    return {kind: np.concatenate([down[kind], up[kind][::-1]]) - begin for kind in down}


def chosen(stage_to_rank: Sequence[int] | None, num_ranks: int, schedule: object) -> tuple[int, ...]:
    """A map of the user's own, or stage s on rank s where there is none."""
    p = at_least(1, num_ranks, "num_ranks", schedule)
    if stage_to_rank is None:
        return tuple(range(p))
    placement = ranks_of_stages(stage_to_rank, "stage_to_rank", schedule)
    used = sorted(set(placement))
    if used != list(range(p)):
        fewer_or_more = f"use num_ranks={len(used)}, or " if used and used == list(range(len(used))) else ""
        raise ScheduleError(
            f"{schedule} places stages on the ranks {used}, but there are {p}; "
            f"{fewer_or_more}place at least one stage on each of the ranks 0 to {p - 1}."
        )
    return placement
