"""A value is not overwritten while it is being sent: the transfer reads its memory until `WaitSend`."""

from funpipe.programs.instructions import (
    Accumulate,
    AllReduce,
    Instruction,
    Rescale,
    Scale,
    Send,
    Store,
    Update,
    WaitSend,
)
from funpipe.programs.program import Program, Programs
from funpipe.programs.rules.failure import failure
from funpipe.programs.rules.holders import holders


def transfers(programs: Programs) -> None:
    """Raises if anything is overwritten between its `Send` and its `WaitSend`."""
    for program in programs.programs:
        _check(programs, program)


def _check(programs: Programs, program: Program) -> None:
    holder = holders(programs, program)
    leaving: dict[str, set[int]] = {}
    for at, instruction in enumerate(program.instructions):
        if isinstance(instruction, Send):
            leaving.setdefault(holder[instruction.value], set()).add(instruction.message)
        elif isinstance(instruction, WaitSend):
            leaving.get(holder[instruction.value], set()).discard(instruction.message)
        for name in overwritten(instruction):
            if leaving.get(name):
                message = min(leaving[name])
                what = f"{name!r} is overwritten while message {message} is still sending it."
                remedy = f"Put wait_send {message} before this line."
                raise failure(program, at, what, "overwrites what is being sent", remedy)


def overwritten(instruction: Instruction) -> tuple[str, ...]:
    """The values that an instruction changes in place."""
    match instruction:
        case Accumulate():
            return instruction.accumulators
        case AllReduce() | Scale():
            return (instruction.value,)
        case Update():
            return (f"bucket.{instruction.bucket}", *(f"slot.{s}.{instruction.bucket}" for s in instruction.slots))
        case Rescale():
            return ("scale.value", "scale.good")
        case Store():
            return (f"leaf.{instruction.leaf}",)
    return ()
