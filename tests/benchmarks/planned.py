"""Plans beside what they take: the predicted time of a step and the measured one, for the best plans of a case.

    python -m tests.benchmarks.planned --case small
    python -m tests.benchmarks.planned --case medium --top 6 --pairs 10

Two processes with one thread each measure the regions of each cut, messages, sums and an update, and plan the case on
two devices: pipelines and replicas, schedules, microbatches of the case's rows and of twice as many. Then the best
plans run by turns. Printed are both times of each, the ratio, and how far the first plan is from the fastest that was
run. What is predicted is the time while nothing else slows the machine down, so it is compared with the tenth
percentile of the measured ones; the median stands beside it.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import torch

import funpipe as fp
from tests.benchmarks.cases import CASES, Case, case_of
from tests.benchmarks.machine import Machine, measured
from tests.benchmarks.meeting import meet
from tests.benchmarks.ours import pure
from tests.benchmarks.pairs import Spread, alternate, seconds

SCHEDULES = ("1f1b", "gpipe", "eager1f1b", "interleaved1f1b", "zerobubbleh1", "zbv")


@dataclass(frozen=True)
class Run:
    """A command line, read."""

    case: Case
    top: int
    pairs: int
    repeats: int
    schedules: tuple[str, ...]
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Line:
    """A plan and its times."""

    name: str
    predicted: float
    measured: Spread

    def as_text(self) -> str:
        """Milliseconds, and what the prediction is off."""
        told, *real = (1e3 * t for t in (self.predicted, self.measured.low, self.measured.median, self.measured.high))
        times = "".join(f"{t:9.2f}" for t in (told, *real))
        return f"{times}  {self.ratio:5.2f} {told / real[1]:5.2f}  {self.name}"

    @property
    def ratio(self) -> float:
        """Predicted over measured, while nothing else slowed the machine down, which is what a prediction is of."""
        return self.predicted / self.measured.low


class Planned:
    """A plan that runs.

    Args:
        case: the model and the global batch.
        plan: how to run it.
        mesh: of the plan's shape.
    """

    def __init__(self, case: Case, plan: fp.planning.Plan, mesh: fp.Mesh) -> None:
        loss_fn, params = pure(case.model())
        x, y = (part.chunk(mesh.shape.dp)[mesh.dp_rank].contiguous() for part in case.batch())
        self.batch = {"x": x, "y": y}
        self.step = fp.train_step(loss_fn, fp.optim.adamw(1e-3), **{**plan.options, "mesh": mesh})
        self.state = self.step.init(params, self.batch)

    def __call__(self):
        self.state, metrics = self.step(self.state, self.batch)
        return lambda: metrics["loss"].item()


def planned(run: Run, machine: Machine) -> fp.planning.Plans:
    """The plans of a case with measured regions; all ranks call it."""
    loss_fn, params = pure(run.case.model())
    x, y = run.case.batch()
    return fp.plan(
        loss_fn,
        params,
        {"x": x, "y": y},
        cluster=machine.cluster(2),
        global_batch=len(x),
        optimizer=fp.optim.adamw(1e-3),
        schedules=run.schedules,
        remat=("none",),
        rows=run.rows,
        costs=lambda traced: fp.planning.RegionCosts(fp.planning.profile(traced)),
        top=run.top,
    )


def measure(run: Run) -> list[str]:
    """Plans and runs on each rank; the report."""
    torch.set_num_threads(1)
    meshes = {(2, 1): fp.mesh(pp=2, device="cpu"), (1, 2): fp.mesh(pp=1, dp=2, device="cpu")}
    size = sum(p.numel() for p in run.case.model().parameters())
    leaves = len(list(run.case.model().parameters()))
    machine = measured(*meshes.values(), size // 2, leaves)
    plans = planned(run, machine)
    steps = {p: Planned(run.case, p, meshes[p.mesh.pp, p.mesh.dp]) for p in plans}
    for step in steps.values():
        seconds(step, 3, meet)
    timers = {str(i): lambda s=step: seconds(s, run.repeats, meet) for i, step in enumerate(steps.values())}
    times = alternate(timers, run.pairs)
    lines = [Line(str(p.candidate), p.seconds, Spread.of(times[str(i)])) for i, p in enumerate(steps)]
    return [str(machine), plans.as_text(), *report(lines)]


def report(lines: Sequence[Line]) -> list[str]:
    """The lines of all plans, the largest error, and how much slower than the fastest the first one is."""
    off = max(abs(line.ratio - 1) for line in lines)
    behind = lines[0].measured.low / min(line.measured.low for line in lines) - 1
    return [
        "predicted  measured ms: 10 %, median, 90 %  ratios of the first two  plan",
        *(line.as_text() for line in lines),
        f"largest error of a prediction: {100 * off:.1f} %",
        f"the first plan is {100 * behind:.1f} % slower than the fastest that was run",
    ]


def parse(words: Sequence[str] | None = None) -> Run:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, default="small")
    parser.add_argument("--blocks", type=int, help="instead of the case's")
    parser.add_argument("--top", type=int, default=6, help="plans to run")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--repeats", type=int, help="steps in one timing, instead of the case's")
    parser.add_argument("--schedules", nargs="*", default=SCHEDULES)
    parser.add_argument("--rows", nargs="*", type=int, help="of a microbatch; the case's and twice as many by default")
    args = parser.parse_args(words)
    case = case_of(args.case, args.blocks)
    rows = tuple(args.rows or (case.rows, 2 * case.rows))
    return Run(case, args.top, args.pairs, args.repeats or case.repeats, tuple(args.schedules), rows)


if __name__ == "__main__":
    print("\n".join(fp.launch(measure, 2, parse())[0]))
