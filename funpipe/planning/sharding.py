"""What is divided among replicas, and what that makes them exchange.

The stages of ZeRO: nothing is divided (0), the optimizer's state (1), gradients too (2), parameters too (3). Memory is
what is left on each replica; what is exchanged is counted in bytes that each replica sends through a ring:

    reduce-scatter or all-gather of n bytes among d replicas    (d - 1) / d · n
    all-reduce, which is one after the other                    2 (d - 1) / d · n

With 0 gradients are all-reduced once a step. With 1 they are reduce-scattered and the updated parameters gathered, as
much. With 2 gradients are reduce-scattered after each backward, as there is nowhere to keep whole ones. With 3
parameters are gathered before each forward and backward, too. None of it is overlapped with computation.

Source: S. Rajbhandari et al., "ZeRO" (arXiv 1910.02054, 2019), sections 5 and 7; P. Patarasuk and X. Yuan, "Bandwidth
optimal all-reduce algorithms for clusters of workstations" (2009), for the ring.
"""

from dataclasses import dataclass, replace

from funpipe.planning.cluster import Link
from funpipe.planning.load import Load


@dataclass(frozen=True)
class Ring:
    """Replicas that exchange.

    Args:
        size: how many.
        link: what each sends through.
    """

    size: int
    link: Link

    def pass_round(self, nbytes: float) -> float:
        """The time of a reduce-scatter or of an all-gather; no time for no bytes, or one replica."""
        if self.size == 1 or nbytes == 0:
            return 0.0
        return (self.size - 1) * self.link.time(nbytes / self.size)


def sharded(load: Load, shard: int, ring: Ring) -> Load:
    """A stage's load with what is exchanged for each microbatch: its times, and what it needs while it runs."""
    if ring.size == 1 or shard < 2:
        return load
    scatter = ring.pass_round(load.owned)
    gather = ring.pass_round(load.params) if shard == 3 else 0.0
    return replace(
        load,
        F=load.F + gather,
        B=load.B + gather + scatter,
        I=load.I + gather,
        W=load.W + gather + scatter,
        working=load.working + load.owned + (load.params if shard == 3 else 0),
    )


def static_bytes(load: Load, shard: int, replicas: int) -> float:
    """What a stage holds on each replica all the time: parameters, gradients, the optimizer's state."""
    parts = (load.params, load.owned, load.slots)
    divided = (shard >= 3, shard >= 2, shard >= 1)
    return sum(part / replicas if cut else part for part, cut in zip(parts, divided, strict=True))


def reduce_time(load: Load, shard: int, ring: Ring) -> float:
    """The time to bring a stage's gradients and parameters together after the last microbatch."""
    return {0: 2, 1: 2, 2: 1, 3: 0}[shard] * ring.pass_round(load.owned)
