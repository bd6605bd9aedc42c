"""What a compiled step takes as one call: a backward with the addition of its gradients to their accumulators."""

from collections.abc import Iterator
from dataclasses import dataclass

from funpipe.programs.instructions import Accumulate, Free, Instruction, runs_of
from funpipe.programs.program import Program

Pair = tuple[str, str]
"""An accumulator, and the region's value that is added to it."""


@dataclass(frozen=True)
class Call:
    """An instruction as the step's source says it.

    Args:
        instruction: any but `Free`, and but an `Accumulate` that is part of a run.
        pairs: what a run accumulates itself; the second of two that overlap.
        freed: the values that nothing reads after it.
    """

    instruction: Instruction
    pairs: tuple[Pair, ...] = ()
    freed: tuple[str, ...] = ()


def joined(program: Program) -> Iterator[Call]:
    """The calls of a program.

    An `Accumulate` right behind the run that makes its values is part of the run; anywhere else it stands alone.

    Args:
        program: one rank's; its `Free` instructions become part of the call before them.
    """
    before: Call | None = None
    for call in _with_freed(program):
        if before is not None and _adds(call.instruction, before):
            before = Call(before.instruction, _pairs(before.instruction, call.instruction), before.freed + call.freed)
        else:
            if before is not None:
                yield before
            before = call
    if before is not None:
        yield before


def _with_freed(program: Program) -> Iterator[Call]:
    """Each instruction with what the `Free` instructions right behind it free."""
    before: Call | None = None
    for instruction in program.instructions:
        if isinstance(instruction, Free) and before is not None:
            before = Call(before.instruction, (), before.freed + instruction.values)
        else:
            if before is not None:
                yield before
            before = Call(instruction)
    if before is not None:
        yield before


def _adds(following: Instruction, before: Call) -> bool:
    runs = runs_of(before.instruction)
    if not isinstance(following, Accumulate) or not runs or before.pairs:
        return False
    return set(following.values) <= set(runs[-1].writes)


def _pairs(before: Instruction, accumulate: Instruction) -> tuple[Pair, ...]:
    assert isinstance(accumulate, Accumulate)
    suffix = f"@{runs_of(before)[-1].microbatch}"
    values = (v.removesuffix(suffix) for v in accumulate.values)
    return tuple(zip(accumulate.accumulators, values, strict=True))
