"""Each value is made once, before it is read, and freed once, after it is read for the last time."""

from funpipe.programs.instructions import Free
from funpipe.programs.program import Program, Programs
from funpipe.programs.rules.failure import failure
from funpipe.programs.rules.holders import holders


def lives(programs: Programs) -> None:
    """Raises unless every value of every rank lives where it is read, has a type, and is freed if anything is."""
    for program in programs.programs:
        _Lives(programs, program).check()


class _Lives:
    """The values of one rank that are alive, and what became of the others."""

    def __init__(self, programs: Programs, program: Program) -> None:
        self.programs, self.program = programs, program
        self.holder = holders(programs, program)
        self.kept = {*program.inputs, *program.outputs.values()}
        self.alive = set(program.inputs)
        self.freed: dict[str, int] = {}

    def check(self) -> None:
        for at, instruction in enumerate(self.program.instructions):
            for name in instruction.reads:
                if isinstance(instruction, Free):
                    self._free(at, name)
                else:
                    self._read(at, name)
            for name in instruction.writes:
                self._make(at, name)
        self._end()

    def _read(self, at: int, name: str) -> None:
        if self.holder[name] in self.alive:
            return
        if name in self.freed:
            what = f"{name!r} was freed by instruction {self.freed[name]}."
            raise failure(self.program, at, what, f"{name} is freed", "Free it after this line.")
        raise failure(
            self.program, at, f"nothing makes {name!r} before this line.", f"{name} is not there",
            "Make or receive it before this line, or name it as an input of the program.",
        )  # fmt: skip

    def _make(self, at: int, name: str) -> None:
        if name in self.alive or name in self.freed:
            what = f"{name!r} was already made."
            raise failure(
                self.program, at, what, "a second time", "Make each value once, or give this one its own name."
            )
        if name not in self.programs.types:
            raise failure(self.program, at, f"{name!r} has no type.", "no type", "Add it to the programs' types.")
        self.alive.add(name)

    def _free(self, at: int, name: str) -> None:
        if name in self.freed:
            what = f"{name!r} was already freed, by instruction {self.freed[name]}."
            raise failure(self.program, at, what, "a second time", "Free each value once.")
        self._read(at, name)
        if name in self.kept:
            what = f"{name!r} is an input or a result of the program, and belongs to the caller."
            raise failure(self.program, at, what, f"frees {name}", "Do not free it.")
        self.alive.remove(name)
        self.freed[name] = at

    def _end(self) -> None:
        end = len(self.program.instructions)
        for result, name in self.program.outputs.items():
            if name not in self.alive:
                what = f"the result {result!r} is {name!r}, which nothing makes."
                raise failure(self.program, end, what, f"{name} is not there", "Make it, or take the result out.")
        left = sorted(self.alive - self.kept)
        if self.freed and left:
            what = f"{left[0]!r} is never freed, while other values are."
            raise failure(self.program, end, what, f"{len(left)} values are left", "Free it after its last use.")
