"""How much memory the values of a rank take."""

from funpipe.programs.instructions import Free, Instruction, PostRecv, WaitRecv
from funpipe.programs.program import Program, Programs


def peak(programs: Programs, program: Program) -> tuple[int, int]:
    """The most bytes that the values of a rank take at once, and the instruction at which they do.

    Inputs are there from the start, a received value from its `PostRecv` on, and a parameter is a view of what holds
    it.
    """
    alive = sum(programs.types[name].nbytes for name in program.inputs)
    most, where = alive, 0
    for at, instruction in enumerate(program.instructions):
        alive += _made(programs, instruction)
        if alive > most:
            most, where = alive, at
        if isinstance(instruction, Free):
            alive -= sum(programs.types[name].nbytes for name in instruction.values)
    return most, where


def _made(programs: Programs, instruction: Instruction) -> int:
    match instruction:
        case PostRecv(message):
            return programs.messages[message].type.nbytes
        case WaitRecv():
            return 0
    return sum(programs.types[name].nbytes for name in instruction.writes)
