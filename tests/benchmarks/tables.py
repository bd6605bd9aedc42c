"""Making, checking and simulating a schedule's table, and the same tasks given to torch's own simulator.

    python -m tests.benchmarks.tables
    python -m tests.benchmarks.tables zbv vhalf --ranks 64 --microbatches 512 --repeats 10

Simulated are times of each stage, messages with latency, bytes and bandwidth of each boundary, and memory of each
stage. Each schedule has a process of its own, whose peak is the memory of the whole process. At the end 1F1B with 1,024
ranks and 4,096 microbatches, 8.4 million tasks. torch.distributed.pipelining adds the messages to the tasks and counts
steps, without times and memory; the time of a task is for both without making the table.
"""

import argparse
import multiprocessing
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch.distributed.pipelining import schedules as theirs

from funpipe.schedules import Communication, Memory, Table, check, get, simulate
from funpipe.schedules.registry import SCHEDULES
from tests.benchmarks.pairs import Spread, alternate, ratios

T = TypeVar("T")
PEER_SIZES = ((16, 64), (64, 512))
"""Ranks and microbatches at which torch's simulator comes to an end in a second or two."""


@dataclass(frozen=True)
class Case:
    """A schedule by name and its size."""

    name: str
    ranks: int
    microbatches: int

    def table(self) -> Table:
        """Makes the table."""
        return get(self.name)().table(self.ranks, self.microbatches)

    def __str__(self) -> str:
        return f"{self.name}, {self.ranks} ranks, {self.microbatches} microbatches"


@dataclass
class Figures:
    """What was measured: the seconds of each part, the number of tasks, the most bytes of the process."""

    tasks: int = 0
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"make": [], "check": [], "simulate": []})
    peak: int = 0


def measure(case: Case, repeats: int) -> Figures:
    """The times of each part, measured in this process."""
    figures = Figures()
    for _ in range(repeats):
        table = timed(figures.seconds["make"], case.table)
        timed(figures.seconds["check"], partial(check, table))
        timed(figures.seconds["simulate"], partial(simulated, table))
        figures.tasks = int(np.count_nonzero(table.cells >= 0))
    figures.peak = peak()
    return figures


def timed(times: list[float], call: Callable[[], T]) -> T:
    """Calls, and notes how long it took."""
    start = time.perf_counter()
    result = call()
    times.append(time.perf_counter() - start)
    return result


def simulated(table: Table) -> None:
    """Simulates with numbers of each stage and boundary."""
    stages, boundaries = np.linspace(1.0, 1.2, table.num_stages), np.linspace(1.0, 2.0, table.num_stages - 1)
    messages = Communication(latency=0.01, bytes=boundaries, bandwidth=10.0)
    simulate(table, F=stages, I=stages, W=stages, communication=messages, memory=Memory(stages, static=stages))


def peak() -> int:
    """The most memory that this process has had, in bytes; of Linux."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def alone(case: Case, repeats: int) -> Figures:
    """`measure` in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (case, repeats))


def line(case: Case, figures: Figures) -> str:
    """One case's figures."""
    parts = {**figures.seconds, "together": [sum(some) for some in zip(*figures.seconds.values(), strict=True)]}
    text = ", ".join(f"{name} {Spread.of(times).as_text(3)}" for name, times in parts.items())
    return f"{case}: {text} s; {figures.tasks} tasks, peak {figures.peak / 2**30:.2f} GiB"


def beside_torch(case: Case, repeats: int) -> str:
    """The time of one task, ours and torch's by turns, and ours in parts of torch's."""
    table = case.table()
    tasks = int(np.count_nonzero(table.cells >= 0))
    times = alternate({"funpipe": lambda: ours(table), "torch": lambda: torchs(table)}, repeats)
    each = {name: Spread.of([t / tasks * 1e6 for t in some]).as_text() for name, some in times.items()}
    ratio = ratios(times["funpipe"], times["torch"]).as_text(3)
    return f"{case}: a task takes {each['funpipe']} µs, torch's {each['torch']} µs; funpipe / torch {ratio}"


def ours(table: Table) -> float:
    """Seconds to check and simulate a table."""
    times: list[float] = []
    timed(times, lambda: (check(table), simulated(table)))
    return times[0]


def torchs(table: Table) -> float:
    """Seconds in which torch adds the messages and counts the steps."""
    times: list[float] = []
    rows: dict[int, Any] = {
        r: [theirs._Action.from_str(str(task)) for task in table.order(r)] for r in range(table.num_ranks)
    }
    place = table.placement.__getitem__
    whole = timed(times, lambda: theirs._add_send_recv(rows, place, table.num_stages))
    timed(times, lambda: theirs._simulate_comms_compute(whole, place, table.num_stages))
    return sum(times)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="schedule", help=f"some of {', '.join(SCHEDULES)}; all by default")
    parser.add_argument("--ranks", type=int, default=64)
    parser.add_argument("--microbatches", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--large", type=int, nargs=2, default=(1024, 4096), help="ranks and microbatches of the last")
    return parser.parse_args(words)


def each_once() -> list[str]:
    """One name of each schedule."""
    return list({schedule: name for name, schedule in reversed(SCHEDULES.items())}.values())[::-1]


def main(run: argparse.Namespace) -> None:
    """Measures and prints."""
    print("medians, with the 10th to the 90th percentile")
    for name in run.names or each_once():
        case = Case(name, run.ranks, run.microbatches)
        print(line(case, alone(case, run.repeats)))
    large = Case("1f1b", *run.large)
    print(line(large, alone(large, min(run.repeats, 3))))
    for ranks, microbatches in PEER_SIZES:
        print(beside_torch(Case("1f1b", ranks, microbatches), run.repeats))


if __name__ == "__main__":
    main(parse())
