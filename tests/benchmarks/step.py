"""The time of a training step beside that of other libraries, by turns in one run.

    python -m tests.benchmarks.step --ranks 2 --case small --pairs 30
    python -m tests.benchmarks.step --ranks 1 --case small --fast-too
    python -m tests.benchmarks.step --ranks 1 --case gpt2 --device cuda

Weights, batches and optimizer (AdamW) are the same, and the losses of the first steps are compared before anything is
timed. Each process computes with one thread. On several ranks the peer is torch.distributed.pipelining, with eager and
with compiled stages. On one device: eager torch and a compiled model with its loss, both with fused AdamW, and JAX with
the whole step in one jit, each in the faster of two forms: the whole batch at once, and microbatch by microbatch. On a
GPU also the compiled model with CUDA graphs. The ratio is the median over the pairs of timings, with its 10th and 90th
percentile; smaller is better. To measure less at a time: --only "JAX" keeps the peers whose name has this in it. With
--fast-too a step with numerics="fast" is measured beside the other in the same run, against the same peers.

The times to the first loss are for orientation, in the order in which things were built: see tests.benchmarks.cold.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

import funpipe as fp
from tests.benchmarks.cases import CASES, Case, case_of
from tests.benchmarks.compare import Results, compare
from tests.benchmarks.meeting import meet
from tests.benchmarks.ours import Funpipe, Options
from tests.benchmarks.peers import peers_of
from tests.benchmarks.report import as_text
from tests.benchmarks.steps import Peer


@dataclass(frozen=True)
class Run:
    """A command line, read.

    Args:
        case: what to train.
        options: how funpipe runs it.
        pairs: timings of each.
        repeats: steps in one timing.
        only: part of the names of the peers to keep.
        fast_too: whether a step with `numerics="fast"` is measured besides.
    """

    case: Case
    options: Options
    pairs: int
    repeats: int
    only: str = ""
    fast_too: bool = False


def parse(words: Sequence[str] | None = None) -> Run:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, default="small")
    parser.add_argument("--blocks", type=int, help="instead of the case's")
    parser.add_argument("--microbatches", type=int, help="instead of the case's")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--repeats", type=int, help="steps in one timing, instead of the case's")
    parser.add_argument("--only", default="", help="part of the names of the peers to keep")
    parser.add_argument("--fast-too", action="store_true", help="measure numerics='fast' beside the other")
    add_options(parser)
    args = parser.parse_args(words)
    if args.device == "cuda" and args.ranks > 1:
        parser.error(f"--device cuda is for one device, not --ranks {args.ranks}: leave --ranks out.")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a GPU, and torch sees none: leave --device out.")
    case = case_of(args.case, args.blocks, args.microbatches)
    return Run(case, options_of(args), args.pairs, args.repeats or case.repeats, args.only, args.fast_too)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The arguments that say how funpipe runs a case."""
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--schedule", default="1f1b")
    parser.add_argument("--backend", choices=("step", "regions", "interpret"), default="step")
    parser.add_argument("--numerics", choices=("exact", "fast"), default="exact")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")


def options_of(args: argparse.Namespace) -> Options:
    """What `add_options` read."""
    return Options(args.ranks, args.schedule, args.backend, args.numerics, args.device)


def measure(run: Run) -> Results:
    """Runs on each rank; the times of the last one are those to look at, because it has the loss."""
    case, options = run.case, run.options
    mesh = fp.mesh(pp=options.ranks, device="cpu") if options.ranks > 1 else None
    ours = {"funpipe": options}
    if run.fast_too:
        ours["funpipe, fast"] = replace(options, numerics="fast")
    mine = [Peer(name, partial(Funpipe, case, how, mesh)) for name, how in ours.items()]
    others = [p for p in peers_of(case, case.model(), options.ranks, options.device) if run.only in p.name]
    return compare([*mine, *others], run.pairs, run.repeats, case.tolerance, meet)


def main(run: Run) -> None:
    """Measures and prints."""
    print(f"{run.case}\n{run.options}\n{run.pairs} pairs, {run.repeats} steps in each timing", flush=True)
    ranks = run.options.ranks
    print(as_text(fp.launch(measure, ranks, run)[-1] if ranks > 1 else measure(run)))


if __name__ == "__main__":
    main(parse())
