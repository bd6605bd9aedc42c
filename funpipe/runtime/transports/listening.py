"""How a rank waits for others of its host: what comes is taken out of the channels meanwhile.

Nothing runs in the background. A wait looks again and again for a moment, since the other side is mostly not far
behind, and sleeps then until it does. A wait for the network does the same (`beside`): a neighbour may be out of room
until this rank takes out what it sent, and what this rank had no room for leaves only as its neighbours say that there
is some.
"""

import os
import select
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from math import inf
from threading import Lock
from time import perf_counter
from weakref import WeakSet

from funpipe.runtime.transports import beside
from funpipe.runtime.transports.channel import Channel
from funpipe.runtime.transports.meetings import Meetings

_AGAIN = 200e-6
"""Seconds of looking again before sleeping; none where there are more processes than cores."""

_ASLEEP = 0.1
"""Seconds of one sleep at most: another thread may have taken out what this one waits for."""

_BESIDE = 1e-3
"""The same while the network is waited for, or room to say something: nothing wakes who waits for that."""

_ON_ITS_WAY = 1.0
"""Seconds that something may still take in the network after its sender has ended."""

_OPEN: "WeakSet[Listening]" = WeakSet()


class Listening:
    """All channels of this rank.

    Args:
        channels: to other ranks of this host, by global rank.
        meetings: where parts of collectives are laid down.
    """

    def __init__(self, channels: Mapping[int, Channel], meetings: Meetings) -> None:
        self.channels, self.meetings = channels, meetings
        self.lock = Lock()
        self.from_socket = {channel.records.connection.fileno(): src for src, channel in channels.items()}
        self.again = _AGAIN if len(channels) < _cores() else 0.0
        _OPEN.add(self)

    @cached_property
    def sockets(self) -> "select.epoll":
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
            if not self.say_rest():
                asleep = min(asleep, _BESIDE)
            if any(channel.ended for channel in awaited()):
                raise ConnectionResetError("the other end has hung up")
            left = began + timeout - now
            if left <= 0:
                raise TimeoutError(f"timed out: {timeout:g} s without a word from {whom}")
            awake = now - began < self.again
            if not self.take(0 if awake else min(left, asleep)) and awake:
                os.sched_yield()  # somebody else may need this core more, even the one that is waited for
            now = perf_counter()

    def say_rest(self) -> bool:
        """Says what there was no room for; whether nothing is left."""
        if all(channel.gone() for channel in self.channels.values()):
            return True
        with self.lock:
            for channel in self.channels.values():
                channel.say_rest()
        return all(channel.gone() for channel in self.channels.values())

    def flush(self, timeout: float) -> None:
        """Blocks until everything has left that was started, or time is up; not for a rank that has ended or hung up.

        Args:
            timeout: in seconds.
        """
        with suppress(OSError):
            self.until(lambda: all(channel.ended or channel.empty for channel in self.channels.values()), list, timeout)

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

    def take(self, seconds: float = 0.0) -> bool:
        """Takes a record out of each channel that has one; whether there was any.

        Args:
            seconds: to sleep at most until there is one.
        """
        found = self.sockets.poll(seconds)
        for socket, _ in found:
            self._take(socket)
        return bool(found)

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
                if (found := channel.receive()) is not None:
                    kind, number, part = found
                    self.meetings.lay(kind, number, src, part)
            except BaseException:  # what came is lost, so the channel is
                channel.ended = True
                raise
            finally:
                if channel.ended:
                    self.sockets.unregister(socket)

    def hang_up(self) -> None:
        """Says no more: others that wait for this rank see its end, and what they send still comes in."""
        for channel in self.channels.values():
            channel.hang_up()
            channel.waiting.clear()
            channel.records.unsaid.clear()

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
