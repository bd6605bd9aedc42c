"""Every microbatch is counted once: in each accumulator before it is read, and in each reduced result."""

from collections import defaultdict

from funpipe.programs.instructions import Accumulate, Flatten, Reduce, Send, WaitRecv, runs_of
from funpipe.programs.program import Program, Programs
from funpipe.programs.rules.failure import failure


def microbatches(programs: Programs) -> None:
    """Raises unless each accumulator and each result takes every microbatch once, in the order they are computed."""
    for program in programs.programs:
        _Counts(programs, program).check()


class _Counts:
    """What each accumulator of a rank holds so far."""

    def __init__(self, programs: Programs, program: Program) -> None:
        self.programs, self.program = programs, program
        self.made: dict[str, int] = {}
        self.region: dict[str, str] = {}
        self.held: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self.place: dict[tuple[str, str], str] = {}
        self.counted: set[tuple[str, str]] = set()
        self.arrived: set[str] = set()
        self.read: dict[str, int] = {}
        self.numbers = [str(i) for i in range(programs.num_microbatches)]

    def check(self) -> None:
        for at, instruction in enumerate(self.program.instructions):
            for run in runs_of(instruction):
                self.made |= dict.fromkeys(run.writes, at)
                self.region |= dict.fromkeys(run.writes, run.region)
            match instruction:
                case Accumulate():
                    for accumulator, value in zip(instruction.accumulators, instruction.values, strict=True):
                        self._add(at, accumulator, value)
                case WaitRecv(_, value):
                    self.arrived.add(value)
                case Send(_, value) if value.startswith("acc."):
                    self._whole(at, value)
                case Flatten():
                    self._flatten(at, instruction)
                case Reduce():
                    self._reduce(at, instruction)

    def _add(self, at: int, accumulator: str, value: str) -> None:
        held = self.held[accumulator]
        last = next(reversed(held), value)
        if accumulator in self.read or accumulator in self.arrived:
            what = f"{accumulator!r} is already complete: it was read or received before."
            raise failure(self.program, at, what, f"adds {value}", "Accumulate before it is read or sent.")
        if not self._follows(accumulator, value):
            what = f"{accumulator!r} already holds {last!r}, and {value!r} does not follow it."
            raise failure(self.program, at, what, f"adds {value}", "Add the value of each microbatch once.")
        if self.made.get(value, at) < self.made.get(last, at):
            what = f"{value!r} was computed before {last!r} and is added to {accumulator!r} after it."
            raise failure(self.program, at, what, "out of order", "Accumulate in the order of the runs.")
        held[value] = None

    def _follows(self, accumulator: str, value: str) -> bool:
        """Whether a microbatch is new, and its value the one that the same region gave for others (B and W differ)."""
        base, _, number = value.rpartition("@")
        if (accumulator, number) in self.counted:
            return False
        self.counted.add((accumulator, number))
        return self.place.setdefault((accumulator, self.region.get(value, "")), base) == base

    def _whole(self, at: int, accumulator: str) -> None:
        self.read[accumulator] = at
        if accumulator in self.arrived:
            return
        held = {value.rpartition("@")[2] for value in self.held.get(accumulator, ())}
        lacks = [number for number in self.numbers if number not in held]
        if lacks:
            what = f"{accumulator!r} lacks microbatch {lacks[0]}."
            raise failure(self.program, at, what, f"{accumulator} is not complete", "Accumulate it before this line.")

    def _flatten(self, at: int, instruction: Flatten) -> None:
        expected = self._places(instruction.bucket)
        if instruction.places != expected:
            wrong = next((p for p, e in zip(instruction.places, expected, strict=False) if p != e), instruction.places)
            what = f"the places {wrong} are not those of the bucket {instruction.bucket!r}, in trace order."
            raise failure(self.program, at, what, "wrong places", f"Read {expected}.")
        for accumulator in instruction.reads:
            self._whole(at, accumulator)

    def _places(self, bucket: str) -> tuple[tuple[str, ...], ...]:
        """The accumulators of each leaf of a bucket."""
        slots = next((b.slots for b in self.programs.layout.buckets if b.name == bucket), ())
        return tuple(tuple(self._accumulators(slot.leaf)) for slot in slots)

    def _accumulators(self, leaf: str) -> list[str]:
        names: list[str] = []
        while (name := f"acc.{leaf}.{len(names)}") in self.programs.types:
            names.append(name)
        return names

    def _reduce(self, at: int, instruction: Reduce) -> None:
        base = _base(instruction.values[0]) if instruction.values else ""
        expected = tuple(f"{base}@{i}" for i in range(self.programs.num_microbatches))
        if instruction.values != expected:
            what = f"{instruction.out!r} does not combine one value of each microbatch, in order."
            raise failure(self.program, at, what, "wrong values", f"Combine {', '.join(expected)}.")


def _base(value: str) -> str:
    return value.rpartition("@")[0]
