"""What a compiled step takes as one call: a backward with the addition of its gradients to their accumulators."""

from collections.abc import Iterator

from funpipe.programs.instructions import Accumulate, Free, Instruction, Run
from funpipe.programs.program import Program

Pair = tuple[str, str]
"""An accumulator, and the region's value that is added to it."""


def joined(program: Program) -> Iterator[tuple[Instruction, list[Pair]]]:
    """Each instruction with what it accumulates; `Free` is left out, because compiled code frees by itself.

    An `Accumulate` right behind the run that makes its values is part of the run; anywhere else it stands alone.
    """
    waiting = [i for i in program.instructions if not isinstance(i, Free)]
    taken = False
    for instruction, following in zip(waiting, [*waiting[1:], None], strict=True):
        if taken:
            taken = False
        elif isinstance(instruction, Run) and _adds(following, instruction):
            taken = True
            yield instruction, _pairs(instruction, following)  # type: ignore[arg-type]
        else:
            yield instruction, []


def _adds(following: Instruction | None, run: Run) -> bool:
    return isinstance(following, Accumulate) and set(following.values) <= set(run.writes)


def _pairs(run: Run, accumulate: Accumulate) -> list[Pair]:
    suffix = f"@{run.microbatch}"
    return [(a, v.removesuffix(suffix)) for a, v in zip(accumulate.accumulators, accumulate.values, strict=True)]
