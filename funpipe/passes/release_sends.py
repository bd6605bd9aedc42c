"""Sent values are let go as soon as waiting for their transfer cannot block.

A rank that has received message b of a peer knows that the peer has executed everything before its send of b. If the
peer posted its receive of our message a there, a has a place to go:

    this rank                       peer
    send a                          post_recv a
    ...                             ...
    wait_recv b                     send b
    wait_send a
"""

from collections.abc import Iterator
from dataclasses import replace
from heapq import heappop, heappush

from funpipe.programs import Program, Programs
from funpipe.programs.instructions import Instruction, PostRecv, Send, WaitRecv, WaitSend

Positions = dict[tuple[type, int], int]
"""Where the `Send` and the `PostRecv` of each message are, in their ranks' programs."""


def release_sends(programs: Programs) -> Programs:
    """Moves each `WaitSend` to right after the first `WaitRecv` behind its `Send` that shows the peer has posted.

    Args:
        programs: the programs.

    Returns:
        The programs; a `WaitSend` that no later message vouches for stays where it is.

    Example:
        >>> import torch
        >>> from funpipe.programs import lower
        >>> from funpipe.schedules import GPipe
        >>> from funpipe.stages import partition
        >>> from funpipe.tracing import trace
        >>> weights = {"a": torch.ones(3, 9), "b": torch.ones(9, 2)}
        >>> traced = trace(lambda p, x: (x @ p["a"] @ p["b"]).sum(), weights, torch.ones(1, 3))
        >>> programs = release_sends(lower(traced, partition(traced, (1,)), GPipe().table(2, 1)))
        >>> instructions = programs.programs[0].instructions
        >>> [type(i).__name__ for i in instructions if isinstance(i, (Send, WaitRecv, WaitSend))]
        ['Send', 'WaitRecv', 'WaitSend']
    """
    at: Positions = {
        (type(i), i.message): position
        for program in programs.programs
        for position, i in enumerate(program.instructions)
        if isinstance(i, Send | PostRecv)
    }
    return programs.map(lambda all_ranks, program: _released(all_ranks, program, at))


def _released(programs: Programs, program: Program, at: Positions) -> Program:
    waits = {i.message: i for i in program.instructions if isinstance(i, WaitSend)}
    done: set[int] = set()
    moved: list[Instruction] = []
    for instruction, shown in zip(program.instructions, _shown(programs, program, at), strict=True):
        if not (isinstance(instruction, WaitSend) and instruction.message in done):
            moved.append(instruction)
        moved += [waits[message] for message in shown]
        done.update(shown)
    return replace(program, instructions=tuple(moved))


def _shown(programs: Programs, program: Program, at: Positions) -> Iterator[list[int]]:
    """For each instruction the sent messages, not yet waited for, that it shows to have a place to go."""
    pending: dict[int, list[tuple[int, int]]] = {}
    waited: set[int] = set()
    for instruction in program.instructions:
        shown: list[int] = []
        if isinstance(instruction, Send):
            peer = programs.messages[instruction.message].dst
            heappush(pending.setdefault(peer, []), (at[PostRecv, instruction.message], instruction.message))
        elif isinstance(instruction, WaitRecv):
            queue = pending.get(programs.messages[instruction.message].src, [])
            while queue and queue[0][0] < at[Send, instruction.message]:
                shown.append(heappop(queue)[1])
        elif isinstance(instruction, WaitSend):
            waited.add(instruction.message)
        yield [message for message in shown if message not in waited]
