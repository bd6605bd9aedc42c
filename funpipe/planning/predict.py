"""The time and the memory of a candidate: its table, simulated, and what a step does besides."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from funpipe.planning.candidate import Candidate
from funpipe.planning.cluster import Cluster, Link
from funpipe.planning.load import Load
from funpipe.planning.sharding import Ring, reduce_time, sharded, static_bytes
from funpipe.schedules import Communication, Memory, Schedule, Simulation, Table, simulate


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a step will take.

    Args:
        seconds: the time of a step.
        memory: bytes on each pipeline rank at its peak.
        reducing: for each rank the time after its last task in which gradients are summed and tied leaves exchanged.
        updating: for each rank the time of its update.
        overhead: the time of a step that belongs to none of these.
        simulation: of the schedule's table, with the times of this model's stages.
    """

    seconds: float
    memory: tuple[float, ...]
    reducing: tuple[float, ...]
    updating: tuple[float, ...]
    overhead: float
    simulation: Simulation

    @property
    def bubble(self) -> float:
        """The part of a step in which the busiest rank waits for others to compute, or for what they send."""
        return self.simulation.bubble / self.seconds

    @property
    def shares(self) -> dict[str, float]:
        """The parts of a step by cause, of the busiest rank; they add up to at most 1."""
        rank = int(np.argmax(self.simulation.busy))
        waits = self.simulation.idle.communication[rank]
        times = {
            "compute": self.simulation.busy[rank] + self.updating[rank],
            "bubble": self.simulation.bubble - waits,
            "communication": waits + self.reducing[rank],
            "overhead": self.overhead,
        }
        return {name: time / self.seconds for name, time in times.items()}


@dataclass(frozen=True)
class Stages:
    """A candidate's stages on a cluster.

    Args:
        candidate: what is run.
        loads: of its stages, without what replicas exchange.
        cluster: where.
        batch: bytes of a replica's batch.
    """

    candidate: Candidate
    loads: tuple[Load, ...]
    cluster: Cluster
    batch: int = 0

    @property
    def placement(self) -> tuple[int, ...]:
        """The rank of each stage."""
        return self.candidate.schedule.placement(self.candidate.pp)

    @property
    def sharded(self) -> tuple[Load, ...]:
        """The loads with what replicas exchange for each microbatch."""
        shard, at = self.candidate.shard, self.placement
        return tuple(sharded(load, shard, self.ring(r)) for load, r in zip(self.loads, at, strict=True))

    def ring(self, rank: int) -> Ring:
        """The replicas of a pipeline rank; its first and last device tell whether all of them share a node."""
        pp, dp = self.candidate.pp, self.candidate.dp
        return Ring(dp, self.cluster.wiring.ring((rank, (dp - 1) * pp + rank)))

    @property
    def static(self) -> tuple[float, ...]:
        """The bytes that each stage holds all the time."""
        return tuple(static_bytes(load, self.candidate.shard, self.candidate.dp) for load in self.loads)

    @property
    def reducing(self) -> tuple[float, ...]:
        """For each rank the time to sum gradients and to exchange tied leaves, there and back."""
        times = [0.0] * self.candidate.pp
        for load, rank in zip(self.loads, self.placement, strict=True):
            times[rank] += reduce_time(load, self.candidate.shard, self.ring(rank))
            if load.tied and self.candidate.pp > 1:
                times[rank] += 2 * self.cluster.wiring.of((rank, rank - 1)).time(load.tied)
        return tuple(times)

    @property
    def updating(self) -> tuple[float, ...]:
        """For each rank the time of its update.

        Memory traffic: gradients are written once (zeros) and read once, parameters and slots read and written.
        """
        times = [0.0] * self.candidate.pp
        divided = self.candidate.dp if self.candidate.shard else 1
        for load, rank in zip(self.loads, self.placement, strict=True):
            times[rank] += (4 * load.owned + 2 * load.slots) / divided / self.cluster.traffic
        return tuple(times)

    def predict(self) -> Prediction:
        """Simulates the candidate's table; a ScheduleError where it has none."""
        candidate, found = self.candidate, self.sharded
        table = _table(candidate.schedule, candidate.pp, candidate.num_microbatches)
        simulation = simulate(
            table,
            F=_each(found, "F"),
            B=_each(found, "B"),
            I=_each(found, "I"),
            W=_each(found, "W"),
            communication=self._communication(),
            memory=self._memory(found),
        )
        ends = np.nanmax(simulation.end, axis=1) + self.reducing + self.updating
        return Prediction(
            seconds=float(max(ends.max(), simulation.makespan)) + self.cluster.overhead,
            memory=tuple(peak + self.batch for peak in simulation.memory.peak),
            reducing=self.reducing,
            updating=self.updating,
            overhead=self.cluster.overhead,
            simulation=simulation,
        )

    def _memory(self, found: tuple[Load, ...]) -> Memory:
        """What `Load` says, and what one task in advance receives."""
        return Memory(
            activations=_each(found, "saved"),
            for_weights=_each(found, "for_weights"),
            static=np.array(self.static),
            working=_each(found, "working") + _each(found, "forward") + _each(found, "backward"),
        )

    def _communication(self) -> Communication:
        """Messages between neighbouring stages; a boundary is as slow as on the replica where it is slowest."""
        links = [self._link(a, b) for a, b in zip(self.placement, self.placement[1:], strict=False)]
        return Communication(
            latency=np.array([link.latency for link in links]),
            bytes=_each(self.loads, "forward")[1:],
            bytes_back=_each(self.loads, "backward")[:-1],
            bandwidth=np.array([link.bandwidth for link in links]),
            overlap=self.cluster.wiring.overlap,
        )

    def _link(self, one: int, other: int) -> Link:
        """The slowest of all replicas' links between two ranks."""
        links, pp = self.cluster.wiring, self.candidate.pp
        replicas = range(min(self.candidate.dp, links.node))  # from there on devices lie in their nodes as before
        found = [links.of((d * pp + one, d * pp + other)) for d in replicas]
        return max(found, key=lambda link: link.time(1e6))


def _each(found: tuple[Load, ...], name: str) -> np.ndarray:
    return np.array([getattr(load, name) for load in found], dtype=np.float64)


@lru_cache(maxsize=64)
def _table(schedule: Schedule, pp: int, num_microbatches: int) -> Table:
    return schedule.table(pp, num_microbatches)
