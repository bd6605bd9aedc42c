"""The time of a step on several ranks beside what its schedule would take if only its regions took time.

    python -m tests.benchmarks.makespan --case medium --ranks 2 --pairs 10

Rank 0 compiles every stage's forward and backward alone and times them on one microbatch's values, by turns with steps
of all ranks; from these times `fp.schedules.simulate` gives the makespan of the schedule, without messages, sums of
gradients and the update. What the ratio of the two is above 1 is the price of everything that is not a region. Calling
a compiled region costs some tens of microseconds, which count in its time: with small regions the makespan is too long.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

import funpipe as fp
from tests.benchmarks.cases import CASES, Case, case_of
from tests.benchmarks.meeting import meet
from tests.benchmarks.ours import Funpipe, Options, pure
from tests.benchmarks.pairs import Spread, ratios, seconds
from tests.benchmarks.step import add_options, options_of

CALLS = 5
"""Calls of a region in one timing; the fastest counts, as a single one is short and easily disturbed."""


@dataclass(frozen=True)
class Run:
    """A command line, read."""

    case: Case
    options: Options
    pairs: int
    repeats: int


def regions_alone(case: Case, stages: Sequence[fp.Stage], consts: dict[str, Tensor]) -> dict[str, Callable[[], object]]:
    """Every region compiled by itself and bound to the values of the first microbatch, by its name.

    Args:
        case: the model and the batch.
        stages: the partition.
        consts: tensors that the loss function closes over.
    """
    x, y = (t[: case.rows] for t in case.batch())
    values = {"batch.x": x, "batch.y": y} | {f"const.{n}": t for n, t in consts.items()}
    values |= {f"param.{n}": t for n, t in pure(case.model())[1].items()}
    return {region.name: _alone(region, values) for region in in_order(stages)}


def in_order(stages: Sequence[fp.Stage]) -> list[fp.Region]:
    """The regions in the order in which one microbatch goes through them."""
    return [s.F for s in stages] + [s.B for s in reversed(stages) if s.B is not None]


def _alone(region: fp.Region, values: dict[str, Tensor]) -> Callable[[], object]:
    """A region that is ready to be called; adds what it gives to the values."""
    inputs = [values[name].detach() for name in region.inputs]
    compiled = torch.compile(region.module, dynamic=False, fullgraph=True)
    with torch.no_grad():
        values |= dict(zip(region.outputs, compiled(*inputs), strict=True))
    return lambda: compiled(*inputs)


@torch.no_grad()
def fastest(call: Callable[[], object]) -> float:
    """The shortest time of some calls, in seconds."""
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def makespan(table: fp.schedules.Table, regions: Mapping[str, Callable[[], object]]) -> float:
    """What the schedule takes, in seconds, with the times of the regions measured now."""
    times = {name: fastest(call) for name, call in regions.items()}
    F, B = ([times.get(f"{kind}{s}", 0.0) for s in range(table.num_stages)] for kind in "FB")
    return fp.schedules.simulate(table, F=F, B=B).makespan


def measure(run: Run) -> str:
    """Runs on each rank; the report, from rank 0."""
    mesh = fp.mesh(pp=run.options.ranks, device="cpu")
    ours = Funpipe(run.case, run.options, mesh)
    lowered = ours.step.lowered
    times: list[float] = []
    bounds: list[float] = []
    seconds(ours, 3, meet)
    regions = regions_alone(run.case, lowered.stages, lowered.origin.traced.consts) if mesh.pp_rank == 0 else {}
    for _ in range(run.pairs):
        times.append(seconds(ours, run.repeats, meet))
        if mesh.pp_rank == 0:
            bounds.append(makespan(lowered.schedule, regions))
    return _report(times, bounds, regions) if mesh.pp_rank == 0 else ""


def _report(times: list[float], bounds: list[float], regions: dict[str, Callable[[], object]]) -> str:
    alone = ", ".join(f"{name} {fastest(call) * 1e3:.2f} ms" for name, call in regions.items())
    step, bound = (Spread.of([t * 1e3 for t in some]).as_text() for some in (times, bounds))
    text = f"regions alone: {alone}\nstep {step} ms, makespan {bound} ms"
    return f"{text}\nstep / makespan: {ratios(times, bounds).as_text()}"


def parse(words: Sequence[str] | None = None) -> Run:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, default="medium")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--repeats", type=int, help="steps in one timing, instead of the case's")
    add_options(parser)
    parser.set_defaults(ranks=2)
    args = parser.parse_args(words)
    case = case_of(args.case)
    return Run(case, options_of(args), args.pairs, args.repeats or case.repeats)


if __name__ == "__main__":
    run = parse()
    print(fp.launch(measure, run.options.ranks, run)[0])
