"""What no schedule can beat: a rank's work, and the time in which it cannot work."""

from collections.abc import Sequence

from funpipe.schedules.numbers import Numbers
from funpipe.schedules.search_bound import anywhere, bound
from funpipe.schedules.search_request import Request


def lower_bound(
    num_ranks: int,
    num_microbatches: int,
    F: Numbers = 1.0,
    I: Numbers = 1.0,
    W: Numbers = 1.0,
    *,
    B: Numbers | None = None,
    latency: Numbers = 0.0,
    memory_limit: Numbers | None = None,
    placement: Sequence[int] | None = None,
    stages_per_rank: int | Sequence[int] = (1, 2),
    split: bool = True,
) -> float:
    """A time that the makespan of no table is below, whatever its order; not always one that a table reaches.

    It is the largest of three: what one microbatch takes through all stages and back; a rank's work and the time before
    and after it in which the rank cannot work; and, with a memory limit, the time for which activations have to be held
    over the number that may be held at once.

    Args:
        num_ranks: ranks along the pipeline.
        num_microbatches: microbatches of a step.
        F: the time of one forward; this and all that follows as in `search`.
        I: the time of one gradient of the inputs.
        W: the time of one gradient of the weights.
        B: the time of a whole backward.
        latency: the time that a result takes from one rank to another.
        memory_limit: the most activations that a rank may hold.
        placement: the rank of each stage; None: the bound is the least over all placements that give every rank as
            many stages as `stages_per_rank` says, not only over those that `search` tries.
        stages_per_rank: without a placement, how many stages each rank has.
        split: whether backwards may be split into I and W.

    Returns:
        The bound, in the unit of the times.

    Raises:
        ScheduleError: a limit below 1, which no schedule can meet; or an argument that is out of range.

    Example:
        >>> lower_bound(4, 8, stages_per_rank=1), lower_bound(4, 8, stages_per_rank=2)
        (27.0, 25.5)
    """
    request = Request(num_ranks, num_microbatches, F, I, W, B, latency, memory_limit, placement, stages_per_rank, split)
    if request.placement is not None:
        return bound(request.problem(tuple(request.placement)))
    around = tuple(range(request.num_ranks))
    return min(anywhere(request.problem(around * count)) for count in request.stage_counts())
