"""What two processes of a host tell each other: records of six numbers on a socket, and descriptors of blocks.

What is said leaves at once, or, where the socket has no room for it, later (`say_rest`); always in the order in which
it was said.
"""

import errno
import os
import socket
from collections import deque
from struct import Struct

from torch import Tensor

from funpipe.runtime.transports.blocks import Block, mapped
from funpipe.runtime.transports.part import Loan, Part

Record = tuple[int, int, int, int, int, int]
"""Kind, number, start, bytes, form (see `Part`), and how many parts of the memory are free again."""

BLOCK, DESCRIPTOR, RETURN = -3, -4, -5
"""Kinds: a block is announced, it comes, it is returned."""

_LAYOUT = Struct("<qqqqqq")
_FULL = (errno.EAGAIN, errno.ETOOMANYREFS)
"""Of records, and of descriptors that nobody has taken out."""


class Records:
    """This process's end.

    Args:
        connection: a socket that keeps records apart.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.unsaid: deque[tuple[Record, int | None]] = deque()
        self.expected: deque[tuple[int, int]] = deque()
        self.blocks: dict[int, Tensor] = {}
        self.read: deque[int] = deque()
        self.returned: deque[int] = deque()

    def say(self, record: Record, descriptor: int | None = None) -> None:
        """Sends a record now or later.

        Raises:
            OSError: the other process has ended.
        """
        if self.unsaid or not self._said(record, descriptor):
            self.unsaid.append((record, descriptor))

    def say_rest(self) -> bool:
        """Says what there was no room for; whether nothing is left.

        Raises:
            OSError: the other process has ended.
        """
        while self.unsaid and self._said(*self.unsaid[0]):
            self.unsaid.popleft()
        return not self.unsaid

    def introduce(self, block: Block) -> None:
        """Announces a block that the other process has not mapped yet, and hands it over."""
        self.say((BLOCK, block.number, 0, block.raw.numel(), 0, 0))
        self.say((DESCRIPTOR, block.number, 0, 0, 0, 0), block.descriptor)

    def give_back(self) -> None:
        """Returns the blocks that are read, as far as there is room to say so: the others' use is not in a hurry."""
        while self.read and self._said((RETURN, self.read[0], 0, 0, 0, 0)):
            self.read.popleft()

    def receive(self) -> Record | None:
        """Takes one record; None: the other process has ended.

        Raises:
            BlockingIOError: there is none.
            ConnectionResetError: the other process ended before it read all; what it sent comes next.
            OSError: a block cannot be mapped.
        """
        if not self.expected:  # to look for a descriptor takes longer, so each is announced
            raw, descriptors = self.connection.recv(_LAYOUT.size), []
        else:
            raw, descriptors, _, _ = socket.recv_fds(self.connection, _LAYOUT.size, 1)
        if not raw:
            return None
        record = _LAYOUT.unpack(raw)
        if record[0] == DESCRIPTOR:
            self._map(descriptors)
        return record

    def take(self, record: Record) -> None:
        """Takes note of a record about blocks."""
        kind, number, _, nbytes, *_ = record
        if kind == RETURN:
            self.returned.append(number)
        elif kind == BLOCK:
            self.expected.append((number, nbytes))

    def lent(self, block: int, nbytes: int, form: int) -> Part:
        """A part that lies in a block of the other process."""
        return Part(self.blocks[block][:nbytes], form, Loan(self.read, block))

    def _map(self, descriptors: list[int]) -> None:
        """Maps the block that was announced; there is no descriptor where this process may have no more of them."""
        number, nbytes = self.expected.popleft()
        if not descriptors:
            raise OSError(f"block {number} came without a descriptor: this process may open no more files (ulimit -n)")
        try:
            self.blocks[number] = mapped(descriptors[0], nbytes)
        finally:
            os.close(descriptors[0])

    def _said(self, record: Record, descriptor: int | None = None) -> bool:
        try:
            if descriptor is None:
                self.connection.send(_LAYOUT.pack(*record))
            else:
                socket.send_fds(self.connection, [_LAYOUT.pack(*record)], [descriptor])
        except OSError as error:
            if error.errno in _FULL:
                return False
            raise
        return True
