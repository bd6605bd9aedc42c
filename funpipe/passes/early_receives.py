"""Receives are posted one computation ahead, in the order in which the other side sends.

    post_recv 4                     (the transfer of message 4 overlaps F1 of microbatch 1)
    run F1 1 ...
    h@2 = wait_recv 4 h@2
    run F1 2 ...

A transport matches the messages between two ranks by their order alone, so on each edge the receives take the order of
the sends. Where that order asks for a receive before its own place, it moves further up.
"""

from dataclasses import replace

from funpipe.programs import Program, Programs
from funpipe.programs.instructions import PostRecv, Run, Send, WaitRecv

Order = dict[tuple[int, int], list[int]]
"""For each edge (src, dst) the messages in the order in which they are sent."""


def early_receives(programs: Programs) -> Programs:
    """Moves each `PostRecv` to just before the run that precedes the one in front of which its message is needed.

    Args:
        programs: the programs.

    Returns:
        The programs; on each edge messages are received in the order in which they are sent.

    Example:
        >>> from funpipe.programs import parse
        >>> from funpipe.programs.program import Programs
        >>> early_receives.__name__
        'early_receives'
    """
    sent = _send_order(programs)
    return programs.map(lambda all_ranks, program: _moved(program, sent))


def _send_order(programs: Programs) -> Order:
    order: Order = {}
    for program in programs.programs:
        for send in program.instructions:
            if isinstance(send, Send):
                order.setdefault((program.rank, programs.messages[send.message].dst), []).append(send.message)
    return order


def _moved(program: Program, sent: Order) -> Program:
    wanted = _wanted(program)
    posts: dict[int, list[PostRecv]] = {}
    for (_, dst), messages in sent.items():
        if dst == program.rank:
            for message, position in zip(messages, _in_order([wanted[m] for m in messages]), strict=True):
                posts.setdefault(position, []).append(PostRecv(message))
    moved = []
    for at, instruction in enumerate(program.instructions):
        moved += posts.get(at, [])
        if not isinstance(instruction, PostRecv):
            moved.append(instruction)
    return replace(program, instructions=tuple(moved))


def _wanted(program: Program) -> dict[int, int]:
    """For each message that a rank receives, where its `PostRecv` is best: in front of the last run before it."""
    wanted, last = {}, 0
    for at, instruction in enumerate(program.instructions):
        if isinstance(instruction, Run):
            last = at
        elif isinstance(instruction, WaitRecv):
            wanted[instruction.message] = last
    return wanted


def _in_order(positions: list[int]) -> list[int]:
    """Each position no later than any after it."""
    for k in reversed(range(len(positions) - 1)):
        positions[k] = min(positions[k], positions[k + 1])
    return positions
