"""The time of a training step through `funpipe.interop.pipelining`, beside the native interface and the original.

    python -m tests.benchmarks.pipelining --case small --pairs 30
    python -m tests.benchmarks.pipelining --case small --pairs 30 --backends regions --only native

Two ranks, 1F1B, AdamW. The script of the layer is that of torch.distributed.pipelining with another import: stages made
by hand, `optimizer.step()` by the user. With "step" it is also measured with the optimizer handed over to the schedule,
so that the update is part of what is compiled. The native interface has the same backend, model and cut. Losses are
compared before anything is timed; the ratio is the median over the pairs, with its 10th and 90th percentile.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import funpipe as fp
from funpipe.interop import pipelining as layer
from tests.benchmarks import peers_pipelining
from tests.benchmarks.cases import CASES, Case, case_of
from tests.benchmarks.compare import Results, compare
from tests.benchmarks.meeting import meet
from tests.benchmarks.ours import Funpipe, Options
from tests.benchmarks.report import as_text
from tests.benchmarks.steps import Peer, Step

RANKS = 2
BACKENDS = ("regions", "step")


@dataclass(frozen=True)
class Run:
    """A command line, read.

    Args:
        case: what to train.
        backends: those that are measured.
        pairs: timings of each.
        repeats: steps in one timing.
        only: part of the names of the peers to keep.
    """

    case: Case
    backends: tuple[str, ...]
    pairs: int
    repeats: int
    only: str = ""


def parse(words: Sequence[str] | None = None) -> Run:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, default="small")
    parser.add_argument("--blocks", type=int, help="instead of the case's")
    parser.add_argument("--microbatches", type=int, help="instead of the case's")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--repeats", type=int, help="steps in one timing, instead of the case's")
    parser.add_argument("--backends", nargs="+", choices=("interpret", *BACKENDS), default=BACKENDS)
    parser.add_argument("--only", default="", help="part of the names of the peers to keep")
    args = parser.parse_args(words)
    case = case_of(args.case, args.blocks, args.microbatches)
    return Run(case, tuple(args.backends), args.pairs, args.repeats or case.repeats, args.only)


def layers(case: Case, backend: str) -> list[Peer]:
    """The layer with one backend; with "step" also with the optimizer in its hands."""
    plain = Peer(f"funpipe layer, {backend}", partial(_layer, case, backend, {}))
    if backend != "step":
        return [plain]
    given = {"optimizer": fp.optim.adamw(1e-3)}
    return [plain, Peer(f"funpipe layer, {backend}, optimizer", partial(_layer, case, backend, given))]


def _layer(case: Case, backend: str, options: dict[str, Any]) -> Step:
    return peers_pipelining.loop(case, case.model(), False, layer, backend=backend, **options)


def natives(case: Case, backends: Sequence[str], mesh: fp.Mesh) -> list[Peer]:
    """The native interface with each backend."""
    return [Peer(f"native, {name}", partial(Funpipe, case, Options(RANKS, backend=name), mesh)) for name in backends]


def measure(run: Run) -> Results:
    """Runs on each rank; the times of the last one are those to look at, because it has the loss."""
    mesh, case = fp.mesh(pp=RANKS, device="cpu"), run.case
    ours = [peer for backend in run.backends for peer in layers(case, backend)]
    others = [*natives(case, run.backends, mesh), *peers_pipelining.peers(case, case.model())]
    kept = [peer for peer in others if run.only in peer.name]
    return compare([*ours, *kept], run.pairs, run.repeats, case.tolerance, meet)


def main(run: Run) -> None:
    """Measures and prints."""
    print(f"{run.case}\n{run.pairs} pairs, {run.repeats} steps in each timing", flush=True)
    from tests.benchmarks import pipelining  # by a name that the ranks can import

    print(as_text(fp.launch(pipelining.measure, RANKS, run)[-1]))


if __name__ == "__main__":
    main(parse())
