"""Processor time of what comes before compilation: trace, cut, partition, lower, optimize, verify, and the plan's hash.

    python -m tests.benchmarks.plan [--ranks 2] [--runs 5]

For a decoder of width 32 with 4 and 24 blocks, on 8 and 64 microbatches: milliseconds of each step, the least of
several runs, and the ratios that show what grows. `first` is the first trace of the process, which imports what tracing
needs.
"""

import argparse
import gc
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch

import funpipe as fp
from tests.benchmarks.cases import Case, Transformer
from tests.benchmarks.models import cross_entropy

T = TypeVar("T")
Times = dict[str, float]
SMALL, LARGE = 4, 24
FEW, MANY = 8, 64


class Stopwatch:
    """The milliseconds of this process that named steps take; each begins without garbage to collect."""

    def __init__(self) -> None:
        self.times: Times = {}

    def __call__(self, name: str, step: Callable[[], T]) -> T:
        """Runs a step."""
        gc.collect()
        start = time.process_time()
        result = step()
        self.times[name] = (time.process_time() - start) * 1e3
        return result


def planned(case: Case, ranks: int) -> Times:
    """The times of one plan, from the loss function to the verified programs of all ranks."""
    apply, params, _ = fp.functionalize(case.model())
    x, y = (part[: case.rows] for part in case.batch())
    timed = Stopwatch()
    cutter = fp.stages.split_at({f"blocks.{case.blocks * i // ranks}": "beginning" for i in range(1, ranks)})
    table = fp.schedules.get("1f1b")().table(ranks, case.microbatches)

    def loss_fn(params: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return cross_entropy(apply(params, {}, batch["x"])[0], batch["y"])

    traced = timed("trace", lambda: fp.trace(loss_fn, params, {"x": x, "y": y}))
    cuts = timed("cut", lambda: cutter(traced))
    stages = timed("partition", lambda: fp.stages.partition(traced, cuts))
    optimizer = fp.optim.adamw(1e-3)
    programs = timed("lower", lambda: fp.programs.lower(traced, stages, table, optimizer=optimizer))
    programs = timed("optimize", lambda: fp.passes.optimize(programs))
    timed("verify", lambda: fp.programs.verify(programs))
    timed("digest", programs.digest)
    return timed.times | {"all": sum(timed.times.values())}


def least(case: Case, ranks: int, runs: int) -> Times:
    """The least time of each step in several runs."""
    found = [planned(case, ranks) for _ in range(runs)]
    return {name: min(times[name] for times in found) for name in found[0]}


def report(times: dict[tuple[int, int], Times]) -> None:
    """Prints a line for each case, then the ratios of cases that differ in one number."""
    names = list(next(iter(times.values())))
    print(f"{'':27}" + "".join(f"{name:>11}" for name in names))
    for (blocks, count), row in times.items():
        print(f"{f'{blocks} blocks, {count} microbatches':27}" + "".join(f"{row[name]:11.1f}" for name in names))
    for title, more, less in (
        (f"{LARGE} blocks / {SMALL}", (LARGE, FEW), (SMALL, FEW)),
        (f"{MANY} microbatches / {FEW}", (LARGE, MANY), (LARGE, FEW)),
    ):
        ratios = (times[more][name] / max(times[less][name], 1e-3) for name in names)
        print(f"{title:27}" + "".join(f"{ratio:11.2f}" for ratio in ratios))


def main(ranks: int, runs: int) -> None:
    """Measures the four cases and prints them."""
    torch.set_num_threads(1)
    case = Transformer(width=32, blocks=SMALL, microbatches=FEW)
    print(f"{'first trace':27}{planned(case, ranks)['trace']:11.1f}")
    sizes = [(blocks, count) for blocks in (SMALL, LARGE) for count in (FEW, MANY)]
    report({(b, m): least(replace(case, blocks=b, microbatches=m), ranks, runs) for b, m in sizes})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2, help="stages, each on a rank of its own")
    parser.add_argument("--runs", type=int, default=5)
    main(**vars(parser.parse_args()))
