"""How much memory the values of a rank take."""

from funpipe._typing import TensorType
from funpipe.programs.instructions import Free, PostRecv, WaitRecv
from funpipe.programs.program import Program, Programs


def peak(programs: Programs, program: Program) -> tuple[int, int]:
    """The most bytes that the values of a rank take at once, and the instruction at which they do.

    Inputs are there from the start, a received value from its `PostRecv` on, and a parameter is a view of what holds
    it.
    """
    sizes = _Sizes(programs.types)
    alive = sizes.total(program.inputs)
    most, where = alive, 0
    for at, instruction in enumerate(program.instructions):
        if isinstance(instruction, PostRecv):
            alive += programs.messages[instruction.message].type.nbytes
        elif not isinstance(instruction, WaitRecv):
            alive += sizes.total(instruction.writes)
        if alive > most:
            most, where = alive, at
        if isinstance(instruction, Free):
            alive -= sizes.total(instruction.values)
    return most, where


class _Sizes(dict[str, int]):
    """The bytes of each value that was asked for."""

    def __init__(self, types: dict[str, TensorType]) -> None:
        self.types = types

    def __missing__(self, name: str) -> int:
        self[name] = self.types[name].nbytes
        return self[name]

    def total(self, names: tuple[str, ...]) -> int:
        """The bytes of all of them together."""
        return sum(map(self.__getitem__, names))
