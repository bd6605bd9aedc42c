"""What can be run: every way to divide devices and batch, with every schedule and every rematerialisation."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import inf

from funpipe._errors import ScheduleError
from funpipe.schedules import Memory, Schedule, simulate
from funpipe.stages import Remat

MANY = 64
"""Microbatches that tell which schedule holds the least on one rank."""


@dataclass(frozen=True)
class Candidate:
    """One way to run a step.

    Args:
        pp: ranks along the pipeline.
        dp: replicas.
        shard: the ZeRO stage, 0 to 3: what is divided among the replicas: nothing; the optimizer's state; gradients,
            too; parameters, too.
        schedule: the schedule.
        rows: of the batch, in one microbatch.
        num_microbatches: of each replica.
        remat: what backwards compute again.

    Example:
        >>> from funpipe.schedules import OneFOneB
        >>> Candidate(2, 1, 0, OneFOneB(), rows=4, num_microbatches=8, remat="none").num_stages
        2
    """

    pp: int
    dp: int
    shard: int
    schedule: Schedule
    rows: int
    num_microbatches: int
    remat: Remat

    @property
    def num_stages(self) -> int:
        """Stages on all ranks."""
        return self.schedule.num_stages(self.pp)

    def __str__(self) -> str:
        return (
            f"pp={self.pp} dp={self.dp} shard={self.shard} {self.schedule} {self.num_microbatches} microbatches of "
            f"{self.rows}, remat {self.remat}"
        )


@dataclass(frozen=True)
class Dropped:
    """What falls out, and why.

    Args:
        pp, dp: ranks and replicas.
        reason: in words.
        candidate: the one that falls out; None: all with these ranks and replicas.
        nbytes: what it needs on its fullest rank, if that is the reason.
    """

    pp: int
    dp: int
    reason: str
    candidate: Candidate | None = None
    nbytes: float | None = None


@dataclass(frozen=True)
class Space:
    """What is searched.

    Args:
        devices: how many there are; all are used.
        global_batch: rows of a step on all replicas.
        schedules: to choose from.
        remat: to choose from.
        shard: to choose from.
        rows: sizes of a microbatch to choose from; None: every divisor of a replica's batch.
        pp: numbers of ranks to choose from; None: every divisor of the devices.
    """

    devices: int
    global_batch: int
    schedules: tuple[Schedule, ...]
    remat: tuple[Remat, ...]
    shard: tuple[int, ...]
    rows: tuple[int, ...] | None = None
    pp: tuple[int, ...] | None = None

    def candidates(self) -> Iterator[Candidate | Dropped]:
        """All candidates, and for what cannot be one the reason."""
        for pp in sorted(divisors(self.devices)):
            if self.pp is None or pp in self.pp:
                yield from self._of(pp, self.devices // pp)

    def _of(self, pp: int, dp: int) -> Iterator[Candidate | Dropped]:
        if self.global_batch % dp:
            yield Dropped(pp, dp, f"the global batch of {self.global_batch} rows does not divide by {dp} replicas")
            return
        whole = self.global_batch // dp
        sizes = [b for b in divisors(whole) if self.rows is None or b in self.rows]
        if not sizes:
            yield Dropped(pp, dp, f"none of rows={self.rows} divides a replica's {whole} rows")
        for rows in sizes:
            for schedule, remat in self._orders(pp, whole // rows):
                for shard in self._shards(dp):
                    yield Candidate(pp, dp, shard, schedule, rows, whole // rows, remat)

    def _orders(self, pp: int, num_microbatches: int) -> list[tuple[Schedule, Remat]]:
        """Every schedule with every rematerialisation; on one rank those that differ.

        There the order changes what is held, not the time: of each number of stages the schedule that holds the least.
        More stages than one hold less only where backwards compute again, one stage at a time.
        """
        found = [s for s in self.schedules if _exists(s, pp)]
        if pp > 1 or not found:
            return list(product(found, self.remat))
        counts = sorted({s.num_stages(1) for s in found})
        lightest = [
            min((s for s in found if s.num_stages(1) == v), key=lambda s: _on_one_rank(s, num_microbatches))
            for v in counts
        ]
        return [(s, r) for s in lightest for r in self.remat if s is lightest[0] or r != "none"]

    def _shards(self, dp: int) -> tuple[int, ...]:
        """Without replicas there is nothing to divide."""
        return self.shard if dp > 1 else self.shard[:1]


def divisors(n: int) -> list[int]:
    """Ascending."""
    low = [d for d in range(1, int(n**0.5) + 1) if n % d == 0]
    return sorted({*low, *(n // d for d in low)})


def _exists(schedule: Schedule, pp: int) -> bool:
    try:
        schedule.placement(pp)
    except ScheduleError:  # not for this number of ranks: another schedule may be
        return False
    return True


@lru_cache(maxsize=256)
def _on_one_rank(schedule: Schedule, num_microbatches: int) -> tuple[float, float]:
    """What is the less the better there: time, by which a backward in two parts loses, and what is held at once."""
    try:
        table = schedule.table(1, min(num_microbatches, MANY))
    except ScheduleError:  # not for so few: any other is better
        return inf, inf
    found = simulate(table, F=1.0, B=2.0, I=1.0, W=2.0, memory=Memory(activations=1.0))
    return found.makespan, max(found.memory.peak)
