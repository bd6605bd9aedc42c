"""One edit of good programs: a line taken out, put in, changed or exchanged, and what the verifier says."""

from dataclasses import replace

import pytest

from funpipe._errors import ProgramError
from funpipe.programs import Programs, verify
from funpipe.programs.instructions import Instruction

Place = tuple[int, int]
"""A rank and the number of an instruction."""


def find(programs: Programs, kind: type, rank: int | None = None, number: int = 0, **fields: object) -> Place:
    """The place of the first instruction of a kind with these fields, or of a later one."""
    found = [
        (program.rank, at)
        for program in programs.programs
        for at, i in enumerate(program.instructions)
        if isinstance(i, kind) and rank in (None, program.rank) and all(getattr(i, n) == v for n, v in fields.items())
    ]
    return found[number]


def at(programs: Programs, place: Place) -> Instruction:
    """The instruction at a place."""
    return programs.programs[place[0]].instructions[place[1]]


def put(programs: Programs, place: Place, *instructions: Instruction, over: int = 1) -> Programs:
    """Other instructions in place of `over` ones."""
    rank, start = place
    program = programs.programs[rank]
    lines = (*program.instructions[:start], *instructions, *program.instructions[start + over :])
    edited = [replace(p, instructions=lines) if p is program else p for p in programs.programs]
    return replace(programs, programs=tuple(edited))


def remove(programs: Programs, place: Place) -> Programs:
    """One instruction less."""
    return put(programs, place)


def insert(programs: Programs, place: Place, *instructions: Instruction) -> Programs:
    """Instructions in front of a place."""
    return put(programs, place, *instructions, over=0)


def change(programs: Programs, place: Place, **fields: object) -> Programs:
    """One instruction with other fields."""
    return put(programs, place, replace(at(programs, place), **fields))


def exchange(programs: Programs, one: Place, other: Place) -> Programs:
    """Two instructions in each other's place."""
    first, second = at(programs, one), at(programs, other)
    return put(put(programs, one, second), other, first)


def move(programs: Programs, place: Place, to: Place) -> Programs:
    """An instruction to a place further up, or in front of the instruction further down, of the same rank."""
    instruction = at(programs, place)
    end = (to[0], to[1] - (place[1] < to[1]))
    return insert(remove(programs, place), end, instruction)


def error_of(programs: Programs) -> list[str]:
    """The lines of the verifier's error."""
    with pytest.raises(ProgramError) as error:
        verify(programs)
    return str(error.value).splitlines()
