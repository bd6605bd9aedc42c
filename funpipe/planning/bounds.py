"""What a candidate takes at least, found without its table.

A search may leave out what is above a limit only if the bound is never above what `predict` finds.
"""

from funpipe.planning.load import Load
from funpipe.planning.predict import Stages
from funpipe.planning.sharding import static_bytes


def least_time(stages: Stages) -> float:
    """No rank can begin before the stages below its lowest have run one forward, nor work less than it has to."""
    found, at = stages.sharded, stages.placement
    m = stages.candidate.num_microbatches
    before = [0.0]
    for load in found:
        before.append(before[-1] + load.F)
    times = []
    for rank in set(at):
        mine = [s for s, r in enumerate(at) if r == rank]
        work = m * sum(found[s].F + min(found[s].B, found[s].I + found[s].W) for s in mine)
        times.append(before[mine[0]] + work + stages.reducing[rank] + stages.updating[rank])
    return max(times) + stages.cluster.overhead


def least_memory(stages: Stages) -> tuple[float, int]:
    """The bytes of the fullest rank, and its number: what is always there, and one microbatch on one stage."""
    peaks = [0.0] * stages.candidate.pp
    static = [0.0] * stages.candidate.pp
    for load, there, rank in zip(stages.sharded, stages.static, stages.placement, strict=True):
        static[rank] += there
        peaks[rank] = max(peaks[rank], load.saved + load.working)
    held = [there + peak + stages.batch for there, peak in zip(static, peaks, strict=True)]
    return max(held), held.index(max(held))


def least_time_of(whole: Load, stages_of: int, num_microbatches: int) -> float:
    """The mean over the ranks of the work of a step; the busiest has at least as much."""
    return num_microbatches * (whole.F + whole.B) / stages_of


def least_memory_of(whole: Load, pp: int, shard: int, dp: int) -> float:
    """The mean over the ranks of what they hold all the time."""
    return static_bytes(whole, shard, dp) / pp
