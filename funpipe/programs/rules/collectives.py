"""The ranks of a group reach the same collectives, in the same order, with values of the same type."""

from itertools import zip_longest

from funpipe.programs.instructions import AllReduce
from funpipe.programs.program import Program, Programs
from funpipe.programs.rules.failure import failure

GROUPS = ("pp", "world")
"""The groups that span several programs; the replicas of one rank run the same program."""


def collectives(programs: Programs) -> None:
    """Raises unless all programs have the same collectives in each group."""
    for group in GROUPS:
        first, *others = programs.programs
        for other in others:
            _compare(programs, group, first, other)


def _compare(programs: Programs, group: str, first: Program, other: Program) -> None:
    for at, other_at in zip_longest(_positions(first, group), _positions(other, group)):
        wanted, found = _text(programs, first, at), _text(programs, other, other_at)
        if wanted != found:
            place = len(other.instructions) if other_at is None else other_at
            what = f"{found} over {group!r}, where rank {first.rank} has {wanted}."
            remedy = f"Give all ranks of {group!r} the same collectives in the same order."
            raise failure(other, place, what, f"rank {first.rank} has {wanted}", remedy)


def _positions(program: Program, group: str) -> list[int]:
    return [at for at, i in enumerate(program.instructions) if isinstance(i, AllReduce) and i.group == group]


def _text(programs: Programs, program: Program, at: int | None) -> str:
    if at is None:
        return "no further all_reduce"
    return f"an all_reduce of {programs.types[program.instructions[at].reads[0]]}"
