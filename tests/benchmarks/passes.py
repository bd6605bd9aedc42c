"""The time of a step of two replicas, rewritten by passes, beside DistributedDataParallel and FSDP2, in one run.

    python -m tests.benchmarks.passes --pairs 30
    python -m tests.benchmarks.passes --pairs 30 --delay 0.01 --late-rows 64

Weights, batches (another one on each rank) and optimizer (Adam) are the same. Each process computes with one thread.
Before anything is timed, all of them take `STEPS` steps in float64, and their parameters are compared: in float32 Adam
moves a parameter whose gradient is next to nothing by rounding noise, at full rate.

Then communication is slowed: every collective arrives `--delay` seconds after both ranks have started it, as through a
slow network, and takes nobody's processor meanwhile. What a step takes longer is its exposed communication. A rotated
step puts reductions and updates off into the next step, and is asked what part of that it hides. It can hide as much as
the weight gradients take, so this is measured with batches of `--late-rows` rows, where they take longer than a delay.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

import funpipe as fp
from funpipe.runtime import transport_of
from funpipe.runtime.transports.delayed import delayed
from tests.benchmarks import peers_replicas
from tests.benchmarks.compare import Results, compare
from tests.benchmarks.meeting import meet
from tests.benchmarks.ours_replicas import Replica, RotatedReplica
from tests.benchmarks.pairs import Spread, alternate, seconds
from tests.benchmarks.replicas import Perceptron
from tests.benchmarks.report import as_text
from tests.benchmarks.steps import Peer, Step

STEPS = 5
"""After which the parameters are compared."""

APART = 1e-9
"""How far parameters may be apart in float64, relatively to the norm of their leaf."""

TOLERANCE = 1e-2
"""How far the losses of the first steps may be apart in float32, relatively."""


@dataclass(frozen=True)
class Run:
    """A command line, read.

    Args:
        case: what to train.
        pairs: timings of each.
        repeats: steps in one timing.
        only: part of the names of the peers to keep.
        delay: seconds that a collective takes longer.
        late_rows: of a replica's batch, where collectives are late.
    """

    case: Perceptron = Perceptron()
    pairs: int = 20
    repeats: int = 5
    only: str = ""
    delay: float = 0.02
    late_rows: int = 128


@dataclass(frozen=True)
class Measured:
    """What one rank found.

    Args:
        results: of the peers.
        apart: how far their parameters were apart.
        exposed: seconds of exposed communication, pair by pair, of the step and of the rotated one.
        plain: seconds of a step without a delay, of both.
    """

    results: Results
    apart: float
    exposed: dict[str, list[float]]
    plain: dict[str, list[float]]


def parse(words: Sequence[str] | None = None) -> Run:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=Perceptron.layers)
    parser.add_argument("--width", type=int, default=Perceptron.width)
    parser.add_argument("--rows", type=int, default=Perceptron.rows, help="of a replica's batch")
    parser.add_argument("--pairs", type=int, default=Run.pairs)
    parser.add_argument("--repeats", type=int, default=Run.repeats, help="steps in one timing")
    parser.add_argument("--only", default="", help="part of the names of the peers to keep")
    parser.add_argument("--delay", type=float, default=Run.delay, help="seconds that a collective takes longer")
    parser.add_argument("--late-rows", type=int, default=Run.late_rows, help="of a batch where collectives are late")
    args = parser.parse_args(words)
    case = Perceptron(args.width, args.layers, args.rows)
    return Run(case, args.pairs, args.repeats, args.only, args.delay, args.late_rows)


def ours(case: Perceptron, mesh: fp.Mesh) -> list[Peer]:
    """funpipe's step, and the rotated one."""
    return [
        Peer("funpipe", partial(Replica, case, mesh)),
        Peer("funpipe, rotated", partial(RotatedReplica, case, mesh)),
    ]


def peers(case: Perceptron, mesh: fp.Mesh, only: str = "") -> list[Peer]:
    """Ours, and those whose names have a text in them."""
    return [*ours(case, mesh), *(peer for peer in peers_replicas.peers(case) if only in peer.name)]


def measure(run: Run) -> Measured:
    """Runs on each rank."""
    mesh = fp.mesh(pp=1, dp=2, device="cpu")
    apart = require_same_parameters(peers(replace(run.case, dtype=torch.float64), mesh, run.only))
    results = compare(peers(run.case, mesh, run.only), run.pairs, run.repeats, TOLERANCE, meet)
    late = {peer.name: peer.build() for peer in ours(replace(run.case, rows=run.late_rows), mesh)}
    slow = {name: partial(_late, step, run, mesh) for name, step in late.items()}
    quick = {f"{name} at once": partial(_twice, step, run) for name, step in late.items()}
    times = alternate({**slow, **quick}, run.pairs)
    plain = {name: times[f"{name} at once"] for name in late}
    exposed = {name: [a - b for a, b in zip(times[name], plain[name], strict=True)] for name in late}
    return Measured(results, apart, exposed, plain)


def _twice(step: Step, run: Run) -> float:
    """The time of a step behind one that is not timed."""
    step()
    return seconds(step, run.repeats, meet)


def _late(step: Step, run: Run, mesh: fp.Mesh) -> float:
    """The time of a step whose collectives are late; the first one has some in flight that are not."""
    with delayed(transport_of(mesh), run.delay):
        return _twice(step, run)


def require_same_parameters(compared: Sequence[Peer]) -> float:
    """How far parameters are apart after `STEPS` steps, relatively to the norm of a leaf.

    Raises:
        ValueError: too far.
    """
    (reference, expected), *others = ((peer.name, _trained(peer.build())) for peer in compared)
    worst = 0.0
    for name, parameters in others:
        for leaf, value in parameters.items():
            apart = ((value - expected[leaf]).norm() / expected[leaf].norm()).item()
            worst = max(worst, apart)
            if not apart <= APART:
                raise ValueError(
                    f"after {STEPS} steps {leaf} is {apart:.1e} apart with {reference} and {name}, relatively: they do "
                    "not compute the same, so their times cannot be compared; mend the peer."
                )
    return worst


def _trained(step: Callable[..., object]) -> dict[str, Tensor]:
    for _ in range(STEPS):
        step()
    return step.parameters()  # type: ignore[attr-defined]


def exposed_text(measured: Measured, delay: float) -> str:
    """What a step and its rotated form expose of late communication, and what part the rotation hides."""
    shown = {name: Spread.of([t * 1e3 for t in times]) for name, times in measured.exposed.items()}
    plain = {name: Spread.of([t * 1e3 for t in times]) for name, times in measured.plain.items()}
    lines = [
        f"{name:32}{plain[name].as_text():>28} ms a step, {spread.as_text()} more where collectives are "
        f"{delay * 1e3:g} ms late"
        for name, spread in shown.items()
    ]
    step, rotated = measured.exposed.values()
    hidden = Spread.of([1 - b / a for a, b in zip(step, rotated, strict=True)])
    return "\n".join([*lines, f"hidden by rotation: {hidden.as_text()} of what the step exposes"])


def main(run: Run) -> None:
    """Measures and prints."""
    print(f"{run.case}\n{run.pairs} pairs, {run.repeats} steps in each timing", flush=True)
    measured = fp.launch(measure, 2, run)[0]
    print(f"parameters after {STEPS} steps in float64: at most {measured.apart:.1e} apart, relatively")
    print(as_text(measured.results))
    print(f"with {run.late_rows} rows\n{exposed_text(measured, run.delay)}")


if __name__ == "__main__":
    main(parse())
