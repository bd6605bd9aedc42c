"""A channel between two processes of one host: bytes go through shared memory, and a socket says where they are.

    writer                                     reader
    copies into its part of the memory
    record (kind, number, start, size) ─────►  copies out of it
                                     ◄───────  how many parts it has read, with whatever it sends next

The socket is what orders the two: the kernel lets nobody see a record before what was written ahead of it, on any CPU.
It also wakes a reader that sleeps, and ends when the other process does.

What is too large to be copied twice is lent (`blocks`): the record names a block that the writer has filled, the reader
uses it where it lies, and returns it by a record of its own. The first record of a block comes with its descriptor.
"""

import socket
from collections import defaultdict, deque
from contextlib import suppress
from dataclasses import dataclass

from torch import Tensor

from funpipe._typing import TensorType
from funpipe.runtime.transports.blocks import Block
from funpipe.runtime.transports.memory import Parts, Read, Views
from funpipe.runtime.transports.part import Part
from funpipe.runtime.transports.records import Records

MESSAGE = 0
"""The kind of record that a message is; tensors of collectives have kinds above it."""

LENT = 16
"""The kinds from here on are of tensors that are lent."""

_REPORT, _NUMBER = -1, -2


@dataclass(slots=True)
class Outgoing:
    """Something to send; once it has `left` its tensor, that may change.

    Args:
        kind, number: what it is, for the receiver.
        value: dense, of at most `LARGEST` bytes.
        type: as what it is laid out; None: it is flat uint8.
        form: of a part of a collective.
    """

    kind: int
    number: int
    value: Tensor
    type: TensorType | None = None
    form: int = 0
    left: bool = False


class Channel:
    """This process's end.

    Args:
        connection: a socket that keeps records apart.
        out: the memory that this process writes, flat uint8 of `memory.SIZE`.
        into: the memory that the other process writes.
    """

    def __init__(self, connection: socket.socket, out: Tensor, into: Tensor) -> None:
        self.records = Records(connection)
        self.out, self.into, self.parts = Views(out), Views(into), Parts()
        self.read = Read()
        self.waiting: deque[Outgoing] = deque()
        self.types: dict[int, TensorType] = {}
        self.arrived: dict[int, deque[tuple[Tensor, TensorType | None]]] = defaultdict(deque)
        self.told: deque[int] = deque()
        self.ended = False

    def send(self, outgoing: Outgoing) -> None:
        """Sends if there is room, in order; else `receive` does as soon as the other process has made some.

        Raises:
            OSError: the other process has ended.
        """
        if self.waiting or not self._leave(outgoing):
            self.waiting.append(outgoing)

    def tell(self, number: int) -> None:
        """Sends a bare number, which takes no memory; never blocks."""
        self.records.say((_NUMBER, 0, 0, number, 0, self.read.forget()))

    def lend(self, kind: int, number: int, block: Block, nbytes: int, form: int, rank: int) -> None:
        """Tells where a part of a collective lies; never blocks.

        Args:
            kind, number: of the collective.
            block: filled.
            nbytes: of the part, from the block's begin.
            form: of the part.
            rank: the other process's global rank.

        Raises:
            OSError: it has ended.
        """
        if rank not in block.known:
            block.known.add(rank)
            self.records.introduce(block)
        self.records.say((LENT + kind, number, block.number, nbytes, form, self.read.forget()))

    def gone(self, outgoing: Outgoing | None = None) -> bool:
        """Whether the other process can read all that was said, and something that was to be sent."""
        return not self.records.unsaid and (outgoing is None or outgoing.left)

    @property
    def empty(self) -> bool:
        """Whether nothing is left to send."""
        return not self.waiting and not self.records.unsaid

    def say_rest(self) -> None:
        """Says what there was no room for on the socket."""
        try:
            self.records.say_rest()
        except OSError:  # it has ended: whoever waits for it sees that
            self.records.unsaid.clear()

    def receive(self) -> tuple[int, int, Part] | None:
        """Takes one record if one is there: messages go to `arrived`, numbers to `told`.

        Returns:
            Kind and number of a collective, and what the other process lays down for it.

        Raises:
            OSError: the connection broke.
        """
        try:
            record = self.records.receive()
        except (BlockingIOError, ConnectionResetError):  # reset: it ended before it read all; what it sent comes next
            return None
        if record is None:
            self.ended = True
            return None
        kind, number, start, nbytes, form, freed = record
        if freed:
            self.parts.give_back(freed)
            self._push()
        if kind >= LENT:
            return kind - LENT, number, self.records.lent(start, nbytes, form)
        if kind > MESSAGE:
            value = self.into.of_bytes(start, nbytes).clone()
            self._have_read(nbytes)
            return kind, number, Part(value, form)
        if kind == MESSAGE:
            self._take_message(number, start, nbytes)
        elif kind == _NUMBER:
            self.told.append(nbytes)
        else:
            self.records.take(record)
        return None

    def hang_up(self) -> None:
        """Sends nothing more."""
        with suppress(OSError):  # the other process may have ended
            self.records.connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Ends the connection; the other process still reads what was sent before."""
        self.records.connection.close()

    def _push(self) -> None:
        while self.waiting and self._leave(self.waiting[0]):
            self.waiting.popleft()

    def _leave(self, outgoing: Outgoing) -> bool:
        """Copies into the shared memory and tells the other process; False if there is no room."""
        value, type, nbytes = outgoing.value, outgoing.type, outgoing.value.nbytes
        start = self.parts.take(nbytes)
        if start is None:
            return False
        (self.out.of_bytes(start, nbytes) if type is None else self.out.of(start, type)).copy_(value)
        self.records.say((outgoing.kind, outgoing.number, start, nbytes, outgoing.form, self.read.forget()))
        outgoing.left = True
        return True

    def _take_message(self, number: int, start: int, nbytes: int) -> None:
        """Copies a message out, already as the type that its number had last: mostly that is the one it has."""
        type = self.types.get(number)
        if type is None or type.nbytes != nbytes:
            self.arrived[number].append((self.into.of_bytes(start, nbytes).clone(), None))
        else:
            self.arrived[number].append((self.into.of(start, type).clone(), type))
        self._have_read(nbytes)

    def _have_read(self, nbytes: int) -> None:
        """Counts a part that is free again, and says so if nothing else has gone back for long."""
        self.read.add(nbytes)
        if self.read.due:
            with suppress(OSError):  # it has ended, and needs no room
                self.records.say((_REPORT, 0, 0, 0, 0, self.read.forget()))
