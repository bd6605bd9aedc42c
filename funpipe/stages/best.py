"""The best boundaries under a limit of memory, or why there are none."""

from funpipe._errors import StageError
from funpipe.stages import joint
from funpipe.stages.amounts import Amounts
from funpipe.stages.held import Bounds, Held
from funpipe.stages.memory import Memory
from funpipe.stages.min_max import Limits, least_memory, min_max


def best_bounds(amounts: Amounts, num_stages: int, memory: Memory | None) -> Bounds:
    """The boundaries of the stages whose slowest one is the fastest.

    Args:
        amounts: of all possible stages.
        num_stages: how many.
        memory: what a rank may hold, or None.

    Returns:
        `num_stages + 1` boundaries between segments, both ends among them.

    Raises:
        StageError: no partition keeps the limit; the fullest rank of the best one is named.
    """
    if memory is None:
        found = min_max(amounts.grid(), Limits.none(num_stages))
        assert found is not None, "without limits there is a partition into as many stages as segments, or fewer"
        return found
    ranks, in_flight = memory.ranks(num_stages), memory.stages_in_flight(num_stages)
    alone = len(set(ranks)) == len(ranks)
    leaves = () if alone else [leaf for leaf in amounts.leaves if leaf.others]
    held = Held(amounts.grid(memory.slots, copies=alone), in_flight, ranks, leaves)
    found = min_max(held.grid, Limits(memory.limit, in_flight))
    if found is None or held(found).max() > memory.limit:
        # Each stage by itself can be no faster than this.
        ticks = 0 if found is None else int(held.grid.stages(found).time.max())
        found = None if alone or found is None else joint.fastest(held, memory.limit, ticks)
    if found is None:
        raise StageError(_text(num_stages, memory.limit, held, alone))
    return found


def _text(num_stages: int, limit: int, held: Held, alone: bool) -> str:
    amounts = held(least_memory(held.grid, held.in_flight) if alone else joint.smallest(held))
    rank, most = int(amounts.argmax()), int(amounts.max())
    return (
        f"no cut into {num_stages} stages keeps the limit of {limit} bytes on every rank: at best the fullest, rank "
        f"{rank}, would hold {most}, which is {most - limit} too many. Allow at least {most} bytes, cut into more "
        "stages on more ranks, make the microbatches smaller, or use a schedule with fewer of them in flight."
    )
