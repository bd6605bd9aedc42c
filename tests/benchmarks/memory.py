"""The most memory that a step's tensors take at once, beside an eager training loop and beside the prediction.

    python -m tests.benchmarks.memory --case medium
    python -m tests.benchmarks.memory --case medium --ranks 2

Counted are the bytes of tensors, not the process's memory, of which compilers and libraries take most:

- held: parameters, optimizer state, the batch and whatever else is kept between two steps;
- rise: activations, gradients, temporaries, messages: the most that one step allocates on top at once, as torch's
  profiler records allocations.

Their sum is the peak. The prediction is that of `lowered.memory_analysis()`, in which the temporaries inside a region
have no part. The eager peer goes microbatch by microbatch too: the training loop of one device, or
torch.distributed.pipelining. Each is a process of its own; on several ranks each rank has its line.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.benchmarks.cases import CASES
from tests.benchmarks.processes import run
from tests.benchmarks.subject import Subject


@dataclass(frozen=True)
class Memory:
    """What a rank's tensors take, in bytes.

    Args:
        held: between two steps.
        rise: the most that a step allocates on top.
        predicted: for both together, or None.
    """

    held: int
    rise: int
    predicted: int | None

    @property
    def peak(self) -> int:
        """The most at once."""
        return self.held + self.rise


def measured(subject: Subject) -> list[Memory]:
    """Each rank's memory."""
    with tempfile.TemporaryDirectory(prefix="funpipe-memory-") as caches:
        return [Memory(**r) for r in run("tests.benchmarks.memory_child", subject.words(), subject.ranks, Path(caches))]


def as_text(ours: Memory, theirs: Memory) -> str:
    """One rank's figures."""
    lines = [f"  {'':10}{'held':>10}{'rise':>10}{'peak':>10}  MB"]
    for name, memory in (("funpipe", ours), ("eager", theirs)):
        numbers = (memory.held, memory.rise, memory.peak)
        lines.append(f"  {name:10}{''.join(f'{n / 1e6:10.2f}' for n in numbers)}")
    lines.append(f"  peak / eager peer: {ours.peak / theirs.peak:.2f}")
    if ours.predicted is not None:
        lines.append(f"  peak / predicted {ours.predicted / 1e6:.2f} MB: {ours.peak / ours.predicted:.2f}")
    return "\n".join(lines)


def parse(words: Sequence[str] | None = None) -> Subject:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, default="small")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--schedule", default="1f1b")
    parser.add_argument("--backend", default="step")
    parser.add_argument("--numerics", default="exact")
    return Subject("funpipe", **vars(parser.parse_args(words)))


def main(ours: Subject) -> None:
    """Measures and prints."""
    eager = replace(ours, name="eager" if ours.ranks == 1 else "pipelining")
    mine, theirs = measured(ours), measured(eager)
    for rank, (a, b) in enumerate(zip(mine, theirs, strict=True)):
        print(f"{ours.case}, rank {rank} of {ours.ranks}\n{as_text(a, b)}")


if __name__ == "__main__":
    main(parse())
