"""Large parts of collectives between ranks of one host: each is written once, and read by all where it lies.

    lend             this rank's part is copied into a block, and the others are told of it; never blocks
    near.parts       blocks until the others' parts are there
    give_back        returns their blocks

Nothing is needed of another rank but that it lends its own part, so that waits may come in any order.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

from torch import Tensor

from funpipe.runtime.transports.blocks import Block
from funpipe.runtime.transports.meetings import Meeting
from funpipe.runtime.transports.part import Loan, Part
from funpipe.runtime.transports.shared_memory import SharedMemory


def lend(
    near: SharedMemory, kind: int, ranks: Sequence[int], nbytes: int, write: Callable[[Tensor], None], form: int = 0
) -> Meeting:
    """Lays down a large value, which the others read where it lies.

    Args:
        near: the channels.
        kind: above `channel.MESSAGE`; all meetings of a kind are between the same ranks.
        ranks: global ranks, this one among them.
        nbytes: of the value.
        write: fills a flat uint8 tensor with it.
        form: see `Part`.

    Returns:
        The meeting of all parts. The blocks of one that is dropped are returned, too.

    Raises:
        OSError: there is no memory.
    """
    others = [rank for rank in ranks if rank != near.rank]
    block = _taken(near, nbytes, others)
    raw = block.raw[:nbytes]
    write(raw)
    meeting = Meeting(ranks, near.rank, Part(raw, form, Loan(near.blocks.returned, block.number)))
    with near.lock:
        number = near.meetings.start(kind, meeting)
        for rank in others:
            with suppress(ConnectionError):  # it has ended; that of its own is missed
                near.channels[rank].lend(kind, number, block, nbytes, form, rank)
                meeting.follow(near.channels[rank])
        if not meeting.leaving:
            block.close()
    return meeting


def give_back(near: SharedMemory, meeting: Meeting | None = None) -> None:
    """Returns blocks to those who lent them: those of a meeting, and those that nothing uses any more.

    Args:
        near: the channels.
        meeting: whose parts are read.
    """
    if meeting is not None:
        meeting.parts.clear()
    with near.lock:
        for channel in near.channels.values():
            with suppress(OSError):  # it has ended, and needs them no more
                channel.records.give_back()


def _taken(near: SharedMemory, nbytes: int, others: Collection[int]) -> Block:
    """A free block, after all returns that have come were taken note of, and what this rank has read was returned."""
    while near.listening.take():
        pass
    give_back(near)
    with near.lock:
        for channel in near.channels.values():
            while channel.records.returned:
                near.blocks.done(channel.records.returned.popleft())
        return near.blocks.take(nbytes, others)
