"""The best boundaries under a limit of memory, or why there are none."""

import warnings

from funpipe._errors import StageError
from funpipe.stages import joint, labels
from funpipe.stages.amounts import Amounts
from funpipe.stages.held import Bounds, Held
from funpipe.stages.labels import Found
from funpipe.stages.memory import Memory
from funpipe.stages.min_max import Limits, least_memory, min_max


def best_bounds(amounts: Amounts, num_stages: int, memory: Memory | None) -> Bounds:
    """The boundaries of the stages whose slowest one is the fastest; a warning tells where that is not proved.

    Args:
        amounts: of all possible stages.
        num_stages: how many.
        memory: what a rank may hold, or None.

    Returns:
        `num_stages + 1` boundaries between segments, both ends among them.

    Raises:
        StageError: no partition keeps the limit, and the text names the fullest rank of the best one; or none was
            found.
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
    result = Found(found)
    if found is not None and held(found).max() > memory.limit:
        # Each stage by itself can be no faster than this.
        result = joint.fastest(held, memory.limit, int(held.grid.stages(found).time.max()))
    if result.bounds is None:
        raise StageError((_none if result.proved else _unknown)(num_stages, memory.limit, held))
    if not result.proved:
        warnings.warn(_maybe_slower(num_stages), stacklevel=2)
    return result.bounds


def _none(num_stages: int, limit: int, held: Held) -> str:
    alone = held.num_ranks == num_stages
    bounds, proved = (least_memory(held.grid, held.in_flight), True) if alone else joint.smallest(held)
    amounts = held(bounds)
    rank, most = int(amounts.argmax()), int(amounts.max())
    best, allow = ("at best", "at least") if proved else ("in the best one found", "about")
    return (
        f"no cut into {num_stages} stages keeps the limit of {limit} bytes on every rank: {best} the fullest, rank "
        f"{rank}, would hold {most}, which is {most - limit} too many. Allow {allow} {most} bytes, cut into more "
        "stages on more ranks, make the microbatches smaller, or use a schedule with fewer of them in flight."
    )


def _unknown(num_stages: int, limit: int, held: Held) -> str:
    return (
        f"found no cut into {num_stages} stages that keeps the limit of {limit} bytes on every rank; the search gave "
        f"up after {labels.MOST:,} ways to cut the beginning, so one may exist. Raise the limit, use fewer stages per "
        "rank, make the microbatches smaller, or use a schedule with fewer of them in flight."
    )


def _maybe_slower(num_stages: int) -> str:
    return (
        f"the cut into {num_stages} stages keeps the memory limit, but may not be the fastest that does: the search "
        f"dropped ways to cut the beginning, of which it keeps {labels.MOST:,}. Compare it with a cut under a higher "
        "limit, or with fewer stages per rank."
    )
