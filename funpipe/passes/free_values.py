"""Values are forgotten after their last use.

`WaitSend` uses the value that is sent: the transfer reads its memory until then. What a program has as input, and what
it gives as a result, is kept.
"""

from dataclasses import replace

from funpipe.programs import Program, Programs
from funpipe.programs.instructions import Free, Instruction
from funpipe.programs.keys import held_keys
from funpipe.programs.rules.holders import casts_of


def free_values(programs: Programs) -> Programs:
    """Puts a `Free` behind the last use of every value that is neither an input nor a result.

    Args:
        programs: the programs, without any `Free`.

    Returns:
        The programs; behind an instruction at most one `Free`, of all values that it uses last.

    Example:
        >>> import torch
        >>> from funpipe.programs import lower
        >>> from funpipe.schedules import GPipe
        >>> from funpipe.stages import partition
        >>> from funpipe.tracing import trace
        >>> traced = trace(lambda p, b: (b["x"] @ p["w"]).sum(), {"w": torch.ones(3, 2)}, {"x": torch.ones(4, 3)})
        >>> programs = free_values(lower(traced, partition(traced, ()), GPipe().table(1, 1)))
        >>> [line for line in programs.programs[0].as_text().splitlines() if line.startswith("free")][0]
        'free (batch.x@0)'
    """
    return programs.map(_freed)


def _freed(programs: Programs, program: Program) -> Program:
    last = _last_uses(program, casts_of(programs, program) | held_keys(programs))
    made: list[Instruction] = []
    for at, instruction in enumerate(program.instructions):
        made.append(instruction)
        if at in last:
            made.append(Free(tuple(last[at])))
    return replace(program, instructions=tuple(made))


def _last_uses(program: Program, casts: dict[str, str]) -> dict[int, list[str]]:
    """For each instruction the values that nothing uses after it; one that nothing reads ends where it is made."""
    kept = {*program.inputs, *program.outputs.values()}
    last: dict[str, int] = {}
    for at, instruction in enumerate(program.instructions):
        reads = [casts.get(name, name) for name in instruction.reads] if casts else instruction.reads
        last |= dict.fromkeys(instruction.writes, at) | dict.fromkeys(reads, at)
    ends: dict[int, list[str]] = {}
    for name, at in last.items():
        if name not in kept and (name in casts or not name.startswith(("param.", "master."))):
            ends.setdefault(at, []).append(name)
    return ends
