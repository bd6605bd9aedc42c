"""The time to the first loss, in fresh processes with fresh caches: what compiling costs, and what it grows with.

    python -m tests.benchmarks.cold                      every row
    python -m tests.benchmarks.cold blocks warm --rounds 3

| row          | what is divided by what                                                                      |
|--------------|----------------------------------------------------------------------------------------------|
| peer         | small on 2 ranks / torch.distributed.pipelining with compiled stages                         |
| blocks       | 24 blocks / 4 blocks                                                                         |
| microbatches | 64 microbatches / 8                                                                          |
| jax          | 24 blocks on one device / JAX jit of the unrolled model, the faster of whole batch and scan  |
| warm         | a second process that finds what the first left on the disk / the first                      |

A time runs from before the step is made, when everything is imported, to the first loss read, on the slowest rank; the
time of the imports is printed beside it. Every process has one thread for its own computations; compilers start as many
helpers as they do by default. The rows `blocks`, `microbatches` and `warm` are on --ranks (1 if left out).
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from tests.benchmarks.pairs import ratios
from tests.benchmarks.processes import run
from tests.benchmarks.subject import Subject

ROWS = ("peer", "blocks", "microbatches", "jax", "warm")


@dataclass(frozen=True)
class First:
    """The first step of something, on its slowest rank; all in seconds."""

    imports: float
    seconds: float


def first(subject: Subject, caches: Path | None = None) -> First:
    """Measures one first step, and prints it.

    Args:
        subject: what to start.
        caches: where compilers keep what they made; None: a fresh folder.
    """
    with tempfile.TemporaryDirectory(prefix="funpipe-cold-") as fresh:
        ranks = run("tests.benchmarks.cold_child", subject.words(), subject.ranks, caches or Path(fresh))
    result = First(max(r["imports"] for r in ranks), max(r["first"] for r in ranks))
    print(f"  {_name(subject):60}{result.seconds:8.1f} s   imports {result.imports:5.1f} s", flush=True)
    return result


def _name(subject: Subject) -> str:
    case = subject.numbered
    return f"{subject.name}, {subject.ranks} ranks, {case.blocks} blocks, {case.microbatches} microbatches"


def pairs_of(row: str, ours: Subject) -> tuple[Subject, list[Subject]]:
    """What is divided, and by what: the fastest of several.

    Args:
        row: a name of `ROWS`, except `warm`.
        ours: funpipe's step as the command line says.
    """
    match row:
        case "peer":
            two = replace(ours, ranks=2)
            return two, [replace(two, name="pipelining-compiled")]
        case "blocks":
            return replace(ours, blocks=24), [replace(ours, blocks=4)]
        case "microbatches":
            return replace(ours, microbatches=64), [replace(ours, microbatches=8)]
    one = replace(ours, blocks=24, ranks=1)
    return one, [replace(one, name=name) for name in ("jax-whole", "jax-scanned")]


def cold_and_warm(ours: Subject) -> tuple[float, float]:
    """The first step of a second process, and of the first."""
    with tempfile.TemporaryDirectory(prefix="funpipe-warm-") as folder:
        cold = first(ours, Path(folder))
        return first(ours, Path(folder)).seconds, cold.seconds


def measured(row: str, ours: Subject, rounds: int) -> Iterator[tuple[float, float]]:
    """The two times of a row, once for each round, in turns."""
    for turn in range(rounds):
        if row == "warm":
            yield cold_and_warm(ours)
            continue
        top, bottoms = pairs_of(row, ours)
        order = [top, *bottoms] if turn % 2 == 0 else [*bottoms, top]
        times = {subject: first(subject).seconds for subject in order}
        yield times[top], min(times[subject] for subject in bottoms)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", default=ROWS, help=f"of {', '.join(ROWS)}; all if left out")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--case", default="small")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--schedule", default="1f1b")
    parser.add_argument("--backend", default="step")
    parser.add_argument("--numerics", default="exact")
    args = parser.parse_args(words)
    if unknown := [row for row in args.rows if row not in ROWS]:
        parser.error(f"there is no row {unknown[0]!r}: name some of {', '.join(ROWS)}.")
    return args


def main(args: argparse.Namespace) -> None:
    """Measures and prints."""
    ours = Subject("funpipe", args.case, 0, 0, args.ranks, args.schedule, args.backend, args.numerics)
    for row in args.rows:
        if row == "jax" and (find_spec("jax") is None or find_spec("optax") is None):
            print("jax is left out: it is not installed; pip install -e '.[bench]' adds it")
            continue
        print(row, flush=True)
        above, below = zip(*measured(row, ours, args.rounds), strict=True)
        print(f"{row}: {ratios(above, below).as_text()}", flush=True)


if __name__ == "__main__":
    main(parse())
