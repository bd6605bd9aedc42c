"""What a rank exchanges with others of its host through shared memory: messages, and small collectives.

Nothing runs in the background: what comes is taken out of the channels while this rank waits for something, and while
it sends something for which there is no room. A wait looks again and again for a moment, since the other side is
mostly not far behind, and sleeps then until it does. A wait for the network does the same (`beside`): a neighbour may
be out of room until this rank takes out what it sent, and what this rank had no room for leaves only as its
neighbours say that there is some.
"""

import os
import select
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from math import inf
from threading import Lock
from time import perf_counter
from weakref import WeakSet

from torch import Tensor

from funpipe.backends.transport import Message
from funpipe.runtime.transports import beside, wire
from funpipe.runtime.transports.channel import MESSAGE, Channel, Outgoing
from funpipe.runtime.transports.meetings import Meeting, Meetings

_AGAIN = 200e-6
"""Seconds of looking again before sleeping; none where there are more processes than cores."""

_ASLEEP = 0.1
"""Seconds of one sleep at most: another thread may have taken out what this one waits for."""

_BESIDE = 1e-3
"""The same while the network is waited for."""

_ON_ITS_WAY = 1.0
"""Seconds that something may still take in the network after its sender has ended."""

_OPEN: "WeakSet[SharedMemory]" = WeakSet()


class SharedMemory:
    """The channels of this rank.

    Args:
        rank: this process's global rank.
        channels: to other ranks of this host, by global rank.
        names: the global rank of each pipeline rank.
    """

    def __init__(self, rank: int, channels: dict[int, Channel], names: Sequence[int]) -> None:
        self.rank, self.channels, self.names = rank, channels, names
        self.meetings = Meetings()
        self.lock = Lock()
        self.from_socket = {channel.connection.fileno(): src for src, channel in channels.items()}
        self.again = _AGAIN if len(channels) < _cores() else 0.0
        _OPEN.add(self)

    @cached_property
    def sockets(self) -> select.epoll:
        """What to sleep beside; of a kind that several threads may."""
        made = select.epoll()
        for socket in self.from_socket:
            made.register(socket, select.EPOLLIN)
        made.register(self.bell, select.EPOLLIN)
        return made

    @cached_property
    def bell(self) -> beside.Bell:
        """Rung when a wait for the network is over."""
        return beside.Bell()

    def reaches(self, peer: int) -> bool:
        """Whether a pipeline rank is on this host."""
        return self.names[peer] in self.channels

    def send(self, tensor: Tensor, message: Message) -> "Leaving":
        """Starts a message whose tensor is laid out as its type says.

        A rank that only sends for a while, as in GPipe, would otherwise stop its neighbour: what waits for room would
        leave at its own next wait.
        """
        outgoing = Outgoing(MESSAGE, message.id, tensor, message.type)
        channel = self.channels[self.names[message.dst]]
        with self.lock:
            channel.send(outgoing)
        while not outgoing.left and (found := self.sockets.poll(0)):  # word of room may have come since the last wait
            for socket, _ in found:
                self._take(socket)
        return Leaving(self, channel, outgoing)

    def post_recv(self, message: Message) -> "Coming":
        """Says of which type a message will be, so that it is laid out as it comes."""
        channel = self.channels[self.names[message.src]]
        channel.types[message.id] = message.type
        return Coming(self, channel, message)

    def meet(
        self, kind: int, ranks: Sequence[int], part: Tensor, timeout: float, makers: Sequence[int] | None = None
    ) -> Meeting:
        """Lays down a value for other ranks, and blocks until it may change.

        Args:
            kind: above `MESSAGE`; all meetings of a kind are between the same ranks.
            ranks: global ranks.
            part: a flat uint8 tensor of at most `memory.LARGEST`.
            timeout: in seconds.
            makers: those that lay something down, the same on all; None: all.
        """
        meeting = Meeting(ranks if makers is None else makers, self.rank, part)
        leaving: list[Leaving] = []
        with self.lock:
            number, lays = self.meetings.start(kind, meeting), self.rank in meeting.ranks
            for rank in ranks if lays else ():
                if rank != self.rank:
                    channel, outgoing = self.channels[rank], Outgoing(kind, number, part)
                    with suppress(ConnectionError):  # it has ended, and so needs no part; that of its own is missed
                        channel.send(outgoing)
                        if not outgoing.left:
                            leaving.append(Leaving(self, channel, outgoing))
        for each in leaving:
            with suppress(ConnectionError):
                each.wait(timeout)
        return meeting

    def parts(self, meeting: Meeting, timeout: float) -> dict[int, Tensor]:
        """Blocks until all parts of a meeting are here; by global rank."""
        if not meeting.complete:
            absent = f"global ranks {meeting.absent}"
            self.until(lambda: meeting.complete, lambda: [self.channels[r] for r in meeting.absent], timeout, absent)
        return meeting.parts

    def tell(self, number: int) -> None:
        """Tells every rank of the host a number; `told` comes before the next."""
        with self.lock:
            for channel in self.channels.values():
                channel.tell(number)

    def told(self, rank: int, timeout: float) -> int:
        """Blocks until another rank's number is here."""
        channel = self.channels[rank]
        if not channel.told:
            self.until(lambda: channel.told, lambda: [channel], timeout, f"global rank {rank}")
        return channel.told.popleft()

    def beside(self, wait: Callable[[], None], ranks: Sequence[int]) -> None:
        """Blocks until a wait for the network is over, and takes out meanwhile what comes.

        The wait has a thread of its own: gloo says of a message that it has come only to somebody who waits for it.

        Args:
            wait: blocks, with a time limit of its own; what it raises is raised here.
            ranks: whom it waits for, global ranks.

        Raises:
            OSError: one of them ended, or gave up, and nothing came of it any more.
        """
        if not self.channels:
            wait()
            return
        over = beside.begin(wait, self.bell)
        near = [self.channels[rank] for rank in ranks if rank in self.channels]
        try:
            self.until(over.done, lambda: near, inf, asleep=_BESIDE)
        except ConnectionResetError:
            with suppress(TimeoutError):
                self.until(over.done, list, _ON_ITS_WAY, asleep=_BESIDE)
            if not over.done():
                raise
        over.result()

    def until(
        self,
        ready: Callable[[], object],
        awaited: Callable[[], list[Channel]],
        timeout: float,
        whom: str = "the peer",
        asleep: float = _ASLEEP,
    ) -> None:
        """Takes out what comes, until `ready`; looks whether it is at least every `asleep` seconds.

        Raises:
            TimeoutError: it was not in time.
            OSError: a channel broke, or the process at the other end of an awaited one ended.
        """
        began = now = perf_counter()
        while not ready():
            if any(channel.ended for channel in awaited()):
                raise ConnectionResetError("the other end has hung up")
            left = began + timeout - now
            if left <= 0:
                raise TimeoutError(f"timed out: {timeout:g} s without a word from {whom}")
            awake = now - began < self.again
            found = self.sockets.poll(0 if awake else min(left, asleep))
            for socket, _ in found:
                self._take(socket)
            if awake and not found:
                os.sched_yield()  # somebody else may need this core more, even the one that is waited for
            now = perf_counter()

    def _take(self, socket: int) -> None:
        """Takes one record out of a channel."""
        if socket not in self.from_socket:
            self.bell.hear()
            return
        src = self.from_socket[socket]
        channel = self.channels[src]
        with self.lock:
            if channel.ended:
                return
            try:
                found = channel.receive()
            except BaseException:  # what came is lost, so the channel is
                channel.ended = True
                raise
            finally:
                if channel.ended:
                    self.sockets.unregister(socket)
            if found is not None:
                kind, number, part = found
                self.meetings.lay(kind, number, src, part)

    def hang_up(self) -> None:
        """Says no more: others that wait for this rank see its end, and what they send still comes in."""
        for channel in self.channels.values():
            channel.hang_up()

    def close(self) -> None:
        """Ends the channels."""
        if self.channels:
            self.sockets.close()
            self.bell.close()
        for channel in self.channels.values():
            channel.close()


def _close_all() -> None:
    """In a forked child, which would otherwise keep the channels open when its parent has ended."""
    for shared in list(_OPEN):
        shared.close()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_close_all)


def _cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1


@dataclass(slots=True)
class Leaving:
    """A message on its way out."""

    shared: SharedMemory
    channel: Channel
    outgoing: Outgoing

    def wait(self, timeout: float) -> None:
        """Blocks until its bytes have left the tensor."""
        if not self.outgoing.left:
            self.shared.until(lambda: self.outgoing.left, lambda: [self.channel], timeout)


@dataclass(slots=True)
class Coming:
    """A message that is expected."""

    shared: SharedMemory
    channel: Channel
    message: Message

    def wait(self, timeout: float) -> Tensor:
        """Blocks until it is here."""
        arrived = self.channel.arrived[self.message.id]
        if not arrived:
            self.shared.until(lambda: arrived, lambda: [self.channel], timeout)
        tensor, type = arrived.popleft()
        return tensor if type is self.message.type else wire.typed(tensor, self.message.type)
