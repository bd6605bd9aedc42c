"""A channel between two processes of one host: bytes go through shared memory, and a socket says where they are.

    writer                                     reader
    copies into its part of the memory
    record (kind, number, start, size) ─────►  copies out of it
                                     ◄───────  how many parts it has read, with whatever it sends next

The socket is what orders the two: the kernel lets nobody see a record before what was written ahead of it, on any CPU.
It also wakes a reader that sleeps, and ends when the other process does.
"""

import socket
from collections import defaultdict, deque
from contextlib import suppress
from dataclasses import dataclass
from struct import Struct

from torch import Tensor

from funpipe._typing import TensorType
from funpipe.runtime.transports.memory import LARGEST, MOST, Parts, Views, pages

MESSAGE = 0
"""The kind of record that a message is; tensors of collectives have kinds above it."""

_REPORT, _NUMBER = -1, -2
_RECORD = Struct("<qqqqq")


@dataclass(slots=True)
class Outgoing:
    """Something to send; once it has `left`, its tensor may change.

    Args:
        kind, number: what it is, for the receiver.
        value: dense, of at most `LARGEST` bytes.
        type: as what it is laid out; None: it is flat uint8.
    """

    kind: int
    number: int
    value: Tensor
    type: TensorType | None = None
    left: bool = False


class Channel:
    """This process's end.

    Args:
        connection: a socket that keeps records apart.
        out: the memory that this process writes, flat uint8 of `memory.SIZE`.
        into: the memory that the other process writes.
    """

    def __init__(self, connection: socket.socket, out: Tensor, into: Tensor) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.out, self.into, self.parts = Views(out), Views(into), Parts()
        self.waiting: deque[Outgoing] = deque()
        self.types: dict[int, TensorType] = {}
        self.arrived: dict[int, deque[tuple[Tensor, TensorType | None]]] = defaultdict(deque)
        self.told: deque[int] = deque()
        self.unreported = self.unreported_pages = 0
        self.ended = False

    def send(self, outgoing: Outgoing) -> None:
        """Sends if there is room, in order; else `receive` does as soon as the other process has made some.

        Raises:
            OSError: the other process has ended.
        """
        if self.waiting or not self._leave(outgoing):
            self.waiting.append(outgoing)

    def tell(self, number: int) -> None:
        """Sends a bare number, which takes no memory; few of them may be unread at a time."""
        self._tell(_NUMBER, 0, 0, number)

    def receive(self) -> tuple[int, int, Tensor] | None:
        """Takes one record if one is there: messages go to `arrived`, numbers to `told`.

        Returns:
            Kind, number and a copy of the value of a collective.

        Raises:
            OSError: the connection broke.
        """
        try:
            raw = self.connection.recv(_RECORD.size)
        except (BlockingIOError, ConnectionResetError):  # reset: it ended before it read all; what it sent comes next
            return None
        if not raw:
            self.ended = True
            return None
        kind, number, start, nbytes, freed = _RECORD.unpack(raw)
        if freed:
            self.parts.give_back(freed)
            self._push()
        if kind > MESSAGE:
            value = self.into.of_bytes(start, nbytes).clone()
            self._have_read(nbytes)
            return kind, number, value
        if kind == MESSAGE:
            self._take_message(number, start, nbytes)
        elif kind == _NUMBER:
            self.told.append(nbytes)
        return None

    def hang_up(self) -> None:
        """Sends nothing more."""
        with suppress(OSError):  # the other process may have ended
            self.connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Ends the connection; the other process still reads what was sent before."""
        self.connection.close()

    def _push(self) -> None:
        while self.waiting and self._leave(self.waiting[0]):
            self.waiting.popleft()

    def _leave(self, outgoing: Outgoing) -> bool:
        """Copies into the shared memory and tells the other process; False if there is no room."""
        value, type = outgoing.value, outgoing.type
        nbytes = value.nbytes
        start = self.parts.take(nbytes)
        if start is None:
            return False
        (self.out.of_bytes(start, nbytes) if type is None else self.out.of(start, type)).copy_(value)
        self._tell(outgoing.kind, outgoing.number, start, nbytes)
        outgoing.left = True
        return True

    def _tell(self, kind: int, number: int, start: int, nbytes: int) -> None:
        self.connection.send(_RECORD.pack(kind, number, start, nbytes, self.unreported))
        self.unreported = self.unreported_pages = 0

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
        self.unreported += 1
        self.unreported_pages += pages(nbytes)
        if self.unreported >= MOST // 4 or self.unreported_pages >= pages(LARGEST):
            try:
                self._tell(_REPORT, 0, 0, 0)
            except BlockingIOError:  # no room for a record: what is sent or read next says it
                return
            except OSError:
                self.unreported = self.unreported_pages = 0  # it has ended, and needs no room
