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
    """The values of one rank that are alive, and what became of the others.

    An instruction names hundreds of values, so they are looked at as sets, and one by one only to find the fault.
    """

    def __init__(self, programs: Programs, program: Program) -> None:
        self.programs, self.program = programs, program
        self.holder = holders(programs, program)
        self.kept = {*program.inputs, *program.outputs.values()}
        self.alive = set(program.inputs)
        self.params = self._held_by(self.alive)
        self.freed: dict[str, int] = {}

    def check(self) -> None:
        for at, instruction in enumerate(self.program.instructions):
            if isinstance(instruction, Free):
                self._free_all(at, instruction.values)
            else:
                self._read_all(at, instruction.reads)
            self._make_all(at, instruction.writes)
        self._end()

    def _held_by(self, values: set[str]) -> set[str]:
        """The parameters whose holder is one of the values."""
        params = {*self.holder, *(n.replace("leaf.", "param.", 1) for n in values if n.startswith("leaf."))}
        return {name for name in params if self.holder[name] in values}

    def _read_all(self, at: int, names: tuple[str, ...]) -> None:
        if not set(names) - self.alive <= self.params:
            for name in names:
                self._read(at, name)

    def _make_all(self, at: int, names: tuple[str, ...]) -> None:
        made = set(names)
        known = self.programs.types.keys() >= made
        if known and len(made) == len(names) and self._unused(made) and self.alive.isdisjoint(made):
            self.alive |= made
            return
        for name in names:
            self._make(at, name)

    def _free_all(self, at: int, names: tuple[str, ...]) -> None:
        done = set(names)
        if len(done) == len(names) and self._unused(done) and self.alive >= done and self.kept.isdisjoint(done):
            self.alive -= done
            self.freed |= dict.fromkeys(names, at)
            return
        for name in names:
            self._free(at, name)

    def _unused(self, names: set[str]) -> bool:
        """Whether none of the names has been freed."""
        return self.freed.keys().isdisjoint(names)

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
