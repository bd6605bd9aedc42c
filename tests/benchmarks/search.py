"""What a search finds beside the best named schedule that fits, for random times and limits on memory.

    python -m tests.benchmarks.search
    python -m tests.benchmarks.search --vectors 20 --tries 500 --each

F, I and W of a rank are each uniform in [0.5, 1.5], ranks 4 to 8, microbatches from as many to four times as many, and
the limit uniform between the least and the most that any named schedule needs. Printed are the worst ratio of what is
found to the best named schedule that fits, and the part of the gap between that schedule and the lower bound that is
closed: on the mean over the vectors with a gap, against the bound without memory (the busiest rank's work, and the fill
that no placement avoids) and against the higher one that takes the limit into account.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from funpipe._errors import ScheduleError
from funpipe.schedules import Table, lower_bound, search, simulate
from funpipe.schedules.codes import is_kind
from funpipe.schedules.registry import SCHEDULES

CLOSE = 1e-9
"""Makespans that differ by less, in parts of them, are equal."""


@dataclass(frozen=True)
class Vector:
    """What a schedule is asked for: sizes, times of a rank's whole share, the limit in whole shares."""

    ranks: int
    microbatches: int
    times: tuple[float, float, float]
    limit: float

    def __str__(self) -> str:
        F, I, W = self.times
        return f"p={self.ranks} m={self.microbatches} F={F:.2f} I={I:.2f} W={W:.2f} limit {self.limit:.2f}"


@dataclass(frozen=True)
class Outcome:
    """Makespans for one vector, of the best named schedule, of what was found, of the bounds; processor seconds."""

    vector: Vector
    named: float
    name: str
    found: float
    bound: float
    bound_with_limit: float
    seconds: float

    @property
    def ratio(self) -> float:
        """What was found over the best named schedule."""
        return self.found / self.named

    def closed(self, bound: float) -> float | None:
        """The part of the gap that is closed; None where the named schedule has reached the bound."""
        return (self.named - self.found) / (self.named - bound) if self.named > bound * (1 + CLOSE) else None

    def __str__(self) -> str:
        return (
            f"{self.vector}: named {self.named:.3f} ({self.name}), found {self.found:.3f}, "
            f"bound {self.bound:.3f}, with the limit {self.bound_with_limit:.3f}, {self.seconds:.2f} s"
        )


def vectors(count: int, seed: int) -> Iterator[Vector]:
    """Random questions, the same for the same seed."""
    random = Random(seed)
    for _ in range(count):
        p = random.randint(4, 8)
        m = random.randint(p, 4 * p)
        F, I, W = (random.uniform(0.5, 1.5) for _ in range(3))
        needs = [need for _, _, need in named(p, m, (F, I, W))]
        yield Vector(p, m, (F, I, W), random.uniform(min(needs), max(needs)))


def named(p: int, m: int, times: tuple[float, float, float]) -> Iterator[tuple[str, float, float]]:
    """The schedules that exist for these sizes and train: name, makespan, and the limit that each needs."""
    for schedule in dict.fromkeys(SCHEDULES.values()):
        try:
            table = schedule().table(p, m)
        except ScheduleError:
            continue  # it does not exist for these sizes
        if is_kind(table.cells, "B", "I").any():
            yield schedule.__name__, *run(table, times)


def run(table: Table, times: Sequence[float]) -> tuple[float, float]:
    """The makespan of a table, and the most activations that a rank holds, in whole shares."""
    stages = table.num_stages // table.num_ranks
    F, I, W = (time / stages for time in times)
    sim = simulate(table, F=F, I=I, W=W)
    return sim.makespan, max(sim.peak_activations) / stages


def measure(vector: Vector, tries: int) -> Outcome:
    """Searches for one vector."""
    p, m, times, limit = vector.ranks, vector.microbatches, vector.times, vector.limit
    best, name = min((makespan, name) for name, makespan, need in named(p, m, times) if need <= limit)
    start = time.process_time()
    table = search(p, m, *times, memory_limit=limit, tries=tries)
    seconds = time.process_time() - start
    found, need = run(table, times)
    if need > limit:
        raise AssertionError(f"{vector}: what was found needs {need}")
    with_limit = lower_bound(p, m, *times, memory_limit=limit)
    return Outcome(vector, best, name, found, lower_bound(p, m, *times), with_limit, seconds)


def mean_closed(outcomes: Sequence[Outcome], with_limit: bool) -> float:
    """The mean part of the gap that is closed, over the vectors that have one."""
    parts = [o.closed(o.bound_with_limit if with_limit else o.bound) for o in outcomes]
    return float(np.mean([part for part in parts if part is not None] or [1.0]))


def report(outcomes: Sequence[Outcome]) -> str:
    """The figures over all vectors."""
    seconds = np.array([o.seconds for o in outcomes])
    worst = max(outcomes, key=lambda o: o.ratio)
    at_bound = sum(o.found <= o.bound_with_limit * (1 + CLOSE) for o in outcomes)
    shorter, gaps = (sum(o.ratio < 1 - CLOSE for o in outcomes), sum(o.closed(o.bound) is not None for o in outcomes))
    to_bound, with_limit = mean_closed(outcomes, False), mean_closed(outcomes, True)
    lines = [
        f"{len(outcomes)} vectors, {gaps} with a gap",
        f"worst ratio to the best named schedule that fits: {worst.ratio:.6f}",
        f"mean ratio: {np.mean([o.ratio for o in outcomes]):.4f}; shorter in {shorter}",
        f"mean gap closed: {to_bound:.3f} to the bound, {with_limit:.3f} with the limit",
        f"makespans that are the bound with the limit: {at_bound}",
        f"processor seconds: mean {seconds.mean():.2f}, median {np.median(seconds):.2f}, longest {seconds.max():.2f}",
    ]
    return "\n".join(lines)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tries", type=int, default=2000, help="orders that one search tries")
    parser.add_argument("--each", action="store_true", help="print a line for each vector")
    return parser.parse_args(words)


def main(args: argparse.Namespace) -> None:
    """Measures and prints."""
    outcomes = []
    for vector in vectors(args.vectors, args.seed):
        outcomes.append(measure(vector, args.tries))
        if args.each:
            print(outcomes[-1], flush=True)
    print(report(outcomes))


if __name__ == "__main__":
    main(parse())
