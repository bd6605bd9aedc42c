"""The time of a step on several ranks beside what its schedule would take if only its regions took time.

    python -m tests.benchmarks.makespan --case medium --ranks 2 --pairs 10

Every rank times every stage's forward and backward on one microbatch's values, all ranks at the same time, by turns
with steps; from rank 0's times `fp.schedules.simulate` gives the makespan of the schedule, without messages, sums of
gradients and the update. What the ratio of the two is above 1 is the price of everything that is not a region. The
regions are the step's own graphs, compiled as there (`funpipe.planning.measured_regions`).
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

import funpipe as fp
from funpipe.planning.measured_regions import Call, region_calls, region_seconds
from tests.benchmarks.cases import CASES, Case, case_of
from tests.benchmarks.meeting import meet
from tests.benchmarks.ours import Funpipe, Options, pure
from tests.benchmarks.pairs import Spread, ratios, seconds
from tests.benchmarks.step import add_options, options_of


@dataclass(frozen=True)
class Run:
    """A command line, read."""

    case: Case
    options: Options
    pairs: int
    repeats: int


def regions_alone(
    case: Case, stages: Sequence[fp.Stage], consts: dict[str, Tensor], backend: str = "step"
) -> tuple[Call, ...]:
    """Every region as the step calls it, bound to the values of the first microbatch.

    Args:
        case: the model and the batch.
        stages: the partition.
        consts: tensors that the loss function closes over.
        backend: `"step"`, or `"interpret"`.
    """
    x, y = (t[: case.rows] for t in case.batch())
    values = {"batch.x": x, "batch.y": y} | {f"const.{n}": t for n, t in consts.items()}
    values |= {f"param.{n}": t.detach() for n, t in pure(case.model())[1].items()}
    return region_calls(stages, values, backend=backend)


def makespan(table: fp.schedules.Table, times: Mapping[str, float]) -> float:
    """What the schedule takes, in seconds, if its regions take these times."""
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
    regions = regions_alone(run.case, lowered.stages, lowered.origin.traced.consts)
    alone: dict[str, float] = {}
    for _ in range(run.pairs):
        times.append(seconds(ours, run.repeats, meet))
        meet()
        alone = region_seconds(regions, least=0)
        bounds.append(makespan(lowered.schedule, alone))
    return _report(times, bounds, alone) if mesh.pp_rank == 0 else ""


def _report(times: list[float], bounds: list[float], regions: Mapping[str, float]) -> str:
    alone = ", ".join(f"{name} {time * 1e3:.2f} ms" for name, time in regions.items())
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
