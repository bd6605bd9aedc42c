"""The best candidates, in order, without simulating all of them.

Each candidate waits in a queue under a time that it cannot beat. The first in the queue is looked at more closely: from
the work of the whole model, to that of its stages, to its simulated table. A candidate that comes up with its simulated
time is therefore faster than all that are still waiting, so the first few are exactly what simulating every candidate
would put first.
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

from funpipe._errors import ScheduleError, StageError
from funpipe.planning.bounds import least_memory, least_memory_of, least_time, least_time_of
from funpipe.planning.candidate import Candidate, Dropped
from funpipe.planning.cluster import Cluster
from funpipe.planning.model import Cut, Model
from funpipe.planning.predict import Prediction, Stages
from funpipe.planning.source import Source
from funpipe.planning.units import of_bytes


@dataclass(frozen=True)
class Found:
    """A candidate with its prediction."""

    candidate: Candidate
    cut: Cut
    prediction: Prediction


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    Args:
        found: the fastest candidates, in order.
        dropped: what cannot run, and why.
        slower: how many were left without simulating them.
    """

    found: tuple[Found, ...]
    dropped: tuple[Dropped, ...]
    slower: int


@dataclass
class Search:
    """A search for candidates that fit.

    Args:
        model: what is cut.
        source: what is trained.
        cluster: where.
        rows: the microbatch that was traced first.
    """

    model: Model
    source: Source
    cluster: Cluster
    rows: int = 0
    dropped: list[Dropped] = field(default_factory=list)

    def run(self, candidates: Iterable[Candidate | Dropped], top: int) -> Outcome:
        """The `top` fastest of the candidates that fit."""
        possible = self._possible(candidates)
        queue: list[tuple[float, int, int, int, Candidate | Found]] = [
            (0.0, 0, i, 0, c) for i, c in enumerate(possible)
        ]
        heapq.heapify(queue)
        found: list[Found] = []
        while queue and len(found) < top:
            _, _, number, level, candidate = heapq.heappop(queue)
            if isinstance(candidate, Found):
                found.append(candidate)
                continue
            closer = self._looked_at(candidate, level)
            if closer is not None:
                time, result = closer
                heapq.heappush(queue, (time, -level, number, level + 1, result))
        return Outcome(tuple(found), tuple(self.dropped), len(queue))

    def _possible(self, candidates: Iterable[Candidate | Dropped]) -> list[Candidate]:
        """Those that may fit by what all ranks hold together, whatever the microbatch."""
        kept: list[Candidate] = []
        for candidate in candidates:
            if isinstance(candidate, Dropped):
                self.dropped.append(candidate)
            elif self._is_possible(candidate):
                kept.append(candidate)
        return kept

    def _is_possible(self, c: Candidate) -> bool:
        """Neither the state nor the number of operations depends on the microbatch: one trace tells for all."""
        self.rows = self.rows or c.rows
        most = self.model.most_stages(self.rows)
        if c.num_stages > most:
            return self._drop(c, f"{c.num_stages} stages are more than the {most} that the model can be cut into")
        whole = self.model.whole(self.rows)
        return self._fits(c, least_memory_of(whole, c.pp, c.shard, c.dp), "on average over the ranks, for its state")

    def _looked_at(self, c: Candidate, level: int) -> tuple[float, Candidate | Found] | None:
        """A better bound of the candidate's time, or its prediction; None if it falls out."""
        try:
            return (self._by_work, self._by_stages, self._by_table)[level](c)
        except (ScheduleError, StageError) as error:
            self._drop(c, str(error))
            return None

    def _by_work(self, c: Candidate) -> tuple[float, Candidate]:
        if not self.source.adds_up(c.rows):
            return 0.0, c
        return least_time_of(self.model.whole(c.rows), c.pp, c.num_microbatches), c

    def _by_stages(self, c: Candidate) -> tuple[float, Candidate] | None:
        stages = self._stages(c)
        nbytes, rank = least_memory(stages)
        return (least_time(stages), c) if self._fits(c, nbytes, f"on rank {rank}", "at least ") else None

    def predict(self, c: Candidate) -> Prediction:
        """Simulates a candidate, whether it fits or not."""
        return self._stages(c).predict()

    def _by_table(self, c: Candidate) -> tuple[float, Found] | None:
        prediction = self.predict(c)
        nbytes = max(prediction.memory)
        if not self._fits(c, nbytes, f"on rank {prediction.memory.index(nbytes)}"):
            return None
        return prediction.seconds, Found(c, self._cut(c), prediction)

    def _cut(self, c: Candidate) -> Cut:
        return self.model.cut(c.rows, c.num_stages, c.remat)

    def _stages(self, c: Candidate) -> Stages:
        batch = self.source.batch_bytes(c.rows * c.num_microbatches)
        return Stages(c, self._cut(c).loads, self.cluster, batch)

    def _fits(self, c: Candidate, nbytes: float, where: str, least: str = "") -> bool:
        if nbytes <= self.cluster.memory:
            return True
        return self._drop(c, f"needs {least}{of_bytes(nbytes)} {where}, of {of_bytes(self.cluster.memory)}", nbytes)

    def _drop(self, c: Candidate, reason: str, nbytes: float | None = None) -> bool:
        self.dropped.append(Dropped(c.pp, c.dp, reason, c, nbytes))
        return False
