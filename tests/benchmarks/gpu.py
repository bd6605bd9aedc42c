"""The table of one GPU: a step's time beside the fastest of the other libraries, in one command.

    python -m tests.benchmarks.gpu
    python -m tests.benchmarks.gpu --device cpu --tiny

The cases are GPT-2 small in bfloat16 and a width of 256. The peers are those of tests.benchmarks.step on one device:
eager torch, a compiled model, a compiled model with CUDA graphs, and JAX if it is installed. The second line trains
small models on the CPU: it shows that the script runs through, and its figures say nothing.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from tests.benchmarks.cases import CASES, Case, Transformer
from tests.benchmarks.compare import Results
from tests.benchmarks.ours import Options
from tests.benchmarks.pairs import Spread, ratios
from tests.benchmarks.report import OURS, as_text, fastest_of
from tests.benchmarks.step import Run, measure

TARGETS = {"medium": 0.95, "gpt2": 1.0}
"""The ratio to the fastest peer that is aimed at, by case."""


@dataclass(frozen=True)
class Table:
    """A command line, read: the runs by the name of their case."""

    runs: dict[str, Run]


def parse(words: Sequence[str] | None = None) -> Table:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--only", default="", help="part of the names of the peers to keep")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--backend", choices=("step", "regions", "interpret"), default="step")
    parser.add_argument("--tiny", action="store_true", help="small models, to see that it runs through")
    args = parser.parse_args(words)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("this table needs a GPU, and torch sees none: try it with --device cpu --tiny.")
    cases = {name: tiny(CASES[name]) if args.tiny else CASES[name] for name in args.cases}
    options = Options(device=args.device, backend=args.backend)
    fast_too = args.backend == "step"
    return Table({n: Run(case, options, args.pairs, case.repeats, args.only, fast_too) for n, case in cases.items()})


def tiny(case: Case) -> Case:
    """A case of the same kind that takes no time."""
    small = replace(case, width=24, blocks=2, rows=1, microbatches=2, repeats=1)
    return replace(small, sequence=8, vocabulary=16) if isinstance(small, Transformer) else small


def rows(found: dict[str, Results]) -> str:
    """The table, as Markdown: each way of ours beside the fastest peer.

    Args:
        found: by case.
    """
    head = ["| case | funpipe | the fastest peer | ratio | target |", "|---|---|---|---|---|"]
    return "\n".join([*head, *(row for case, results in found.items() for row in _rows(case, results))])


def _rows(case: str, results: Results) -> list[str]:
    fastest = fastest_of(results)
    if fastest is None:
        return [f"| {case} | | no peer was measured | | {TARGETS[case]} |"]
    theirs = results.times[fastest]
    return [
        f"| {case}{name.removeprefix(OURS)} | {_milliseconds(times)} | {fastest}, {_milliseconds(theirs)} "
        f"| {ratios(times, theirs).as_text()} | {TARGETS[case]} |"
        for name, times in results.times.items()
        if name.startswith(OURS)
    ]


def _milliseconds(times: Sequence[float]) -> str:
    return f"{Spread.of(times).median * 1e3:.2f} ms"


def main(table: Table) -> None:
    """Measures and prints; the table at the end."""
    found: dict[str, Results] = {}
    for name, run in table.runs.items():
        print(f"{name}: {run.case}", flush=True)
        found[name] = measure(run)
        print(as_text(found[name]), flush=True)
    print(rows(found))


if __name__ == "__main__":
    main(parse())
