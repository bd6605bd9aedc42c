"""Messages between the threads of one process: a message is a meeting of two threads, and no copy by the sender.

        sender                 the transfer                receiver
        send        ──────►  source  ·  buffer  ◄──────    post_recv
                                 └──┬───┘
        wait_send   ◄──────  whoever first waits for       wait_recv
                             a complete transfer copies

So `wait_send` needs no more of the receiver than its `post_recv`, and `wait_recv` no more of the sender than `send`.
"""

from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from funpipe.backends.transport import Message
from funpipe.runtime.transports import failures
from funpipe.runtime.transports.waiting import Room


@dataclass(eq=False)
class Transfer:
    """One message of one step on its way."""

    source: Tensor | None = None
    buffer: Tensor | None = None
    claimed: bool = False
    done: bool = False

    def ready(self) -> bool:
        """Whether a waiting thread has something to do or nothing left to wait for."""
        return self.done or (self.source is not None and self.buffer is not None and not self.claimed)


class Mailboxes:
    """The transfers of all messages; a message that comes again in the next step queues behind the last one."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.half: dict[int, deque[Transfer]] = defaultdict(deque)

    def join(self, message: Message, end: Literal["source", "buffer"], tensor: Tensor) -> Transfer:
        """Adds one end to the oldest transfer of this message that lacks it."""
        with self.room.changed:
            waiting = self.half[message.id]
            meets = bool(waiting) and getattr(waiting[0], end) is None
            transfer = waiting.popleft() if meets else Transfer()
            if not meets:
                waiting.append(transfer)
            setattr(transfer, end, tensor)
            self.room.changed.notify_all()
        return transfer

    def finish(self, transfer: Transfer, message: Message, rank: int) -> None:
        """Blocks until the bytes are in the buffer; copies them if nobody else does."""
        room = self.room
        with room.changed:
            room.wait_for(transfer.ready, rank, repr(message.label), lambda: failures.late(message, rank, room.timeout))
            if transfer.done:
                return
            transfer.claimed = True
        self.copy(transfer)

    def copy(self, transfer: Transfer) -> None:
        """Moves the bytes, outside the lock; only for the thread that claimed the transfer."""
        assert transfer.source is not None and transfer.buffer is not None
        transfer.buffer.copy_(transfer.source)
        with self.room.changed:
            transfer.source, transfer.done = None, True
            self.room.changed.notify_all()
