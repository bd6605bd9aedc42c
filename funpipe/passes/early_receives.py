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
from funpipe.programs.instructions import PostRecv, Send, WaitRecv, runs_of

Order = dict[tuple[int, int], list[int]]
"""For each edge (src, dst) the messages in the order in which they are sent."""


def early_receives(programs: Programs) -> Programs:
    """Moves each `PostRecv` to just before the run that precedes the one in front of which its message is needed.

    Args:
        programs: the programs.

    Returns:
        The programs; on each edge messages are received in the order in which they are sent.

    Example:
        >>> import torch
        >>> from funpipe.programs import lower
        >>> from funpipe.schedules import GPipe
        >>> from funpipe.stages import partition
        >>> from funpipe.tracing import trace
        >>> weights = {"a": torch.ones(3, 9), "b": torch.ones(9, 2)}
        >>> traced = trace(lambda p, x: (x @ p["a"] @ p["b"]).sum(), weights, torch.ones(1, 3))
        >>> programs = early_receives(lower(traced, partition(traced, (1,)), GPipe().table(2, 3)))
        >>> lines = programs.programs[1].as_text().splitlines()
        >>> [line.split(" = ")[-1].split(" (")[0] for line in lines if "recv" in line or "run" in line][:7]
        ['post_recv 0', 'wait_recv 0 mm@0', 'post_recv 1', 'run F1 0', 'wait_recv 1 mm@1', 'post_recv 2', 'run F1 1']
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
        if runs_of(instruction):
            last = at
        elif isinstance(instruction, WaitRecv):
            wanted[instruction.message] = last
    return wanted


def _in_order(positions: list[int]) -> list[int]:
    """Each position no later than any after it."""
    for k in reversed(range(len(positions) - 1)):
        positions[k] = min(positions[k], positions[k + 1])
    return positions
