"""What a rank exchanges with others of its host through shared memory: small messages, collectives, numbers.

Whatever is started never blocks; waits take out of the channels what comes (`listening`).
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from torch import Tensor

from funpipe.backends.transport import Message
from funpipe.runtime.transports import wire
from funpipe.runtime.transports.blocks import Blocks
from funpipe.runtime.transports.channel import MESSAGE, Channel, Outgoing
from funpipe.runtime.transports.listening import Listening
from funpipe.runtime.transports.meetings import Meeting, Meetings
from funpipe.runtime.transports.part import Part


class SharedMemory:
    """The channels of this rank, and what it lends.

    Args:
        rank: this process's global rank.
        channels: to other ranks of this host, by global rank.
        names: the global rank of each pipeline rank.
    """

    def __init__(self, rank: int, channels: dict[int, Channel], names: Sequence[int]) -> None:
        self.rank, self.channels, self.names = rank, channels, names
        self.meetings = Meetings()
        self.blocks = Blocks()
        self.listening = Listening(channels, self.meetings)
        self.lock = self.listening.lock

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
        while not outgoing.left and self.listening.take():  # word of room may have come since the last wait
            pass
        return Leaving(self.listening, channel, outgoing)

    def post_recv(self, message: Message) -> "Coming":
        """Says of which type a message will be, so that it is laid out as it comes."""
        channel = self.channels[self.names[message.src]]
        channel.types[message.id] = message.type
        return Coming(self.listening, channel, message)

    def meet(
        self, kind: int, ranks: Sequence[int], part: Tensor, form: int = 0, makers: Sequence[int] | None = None
    ) -> Meeting:
        """Lays down a value for other ranks.

        Args:
            kind: above `MESSAGE`; all meetings of a kind are between the same ranks.
            ranks: global ranks.
            part: a flat uint8 tensor of at most `memory.LARGEST`, which does not change.
            form: see `Part`.
            makers: those that lay something down, the same on all; None: all.
        """
        meeting = Meeting(ranks if makers is None else makers, self.rank, Part(part, form))
        with self.lock:
            number = self.meetings.start(kind, meeting)
            for rank in ranks if self.rank in meeting.ranks else ():
                if rank != self.rank:
                    channel, outgoing = self.channels[rank], Outgoing(kind, number, part, form=form)
                    with suppress(ConnectionError):  # it has ended, and needs no part; that of its own is missed
                        channel.send(outgoing)
                        meeting.follow(channel, outgoing)
        return meeting

    def parts(self, meeting: Meeting, timeout: float) -> dict[int, Tensor]:
        """Blocks until all parts of a meeting are here, and this rank's can be read by the others.

        Returns:
            The parts by global rank; those that are lent are to be read while the meeting has them.

        Raises:
            TimeoutError: a part was not in time.
            RuntimeError: a rank has started another collective.
            OSError: a rank ended before it laid down its part.
        """
        if not meeting.over:
            absent = f"global ranks {meeting.absent}"
            awaited = lambda: [self.channels[rank] for rank in meeting.absent]  # noqa: E731
            self.listening.until(lambda: meeting.over, awaited, timeout, absent)
        meeting.require_one()
        if not meeting.known:
            self.listening.until(lambda: meeting.known, list, timeout)
        return {rank: part.raw for rank, part in meeting.parts.items()}

    def tell(self, number: int) -> None:
        """Tells every rank of the host a number; `told` comes before the next."""
        with self.lock:
            for channel in self.channels.values():
                channel.tell(number)

    def told(self, rank: int, timeout: float) -> int:
        """Blocks until another rank's number is here."""
        channel = self.channels[rank]
        if not channel.told:
            self.listening.until(lambda: channel.told, lambda: [channel], timeout, f"global rank {rank}")
        return channel.told.popleft()

    def close(self) -> None:
        """Ends the channels."""
        self.listening.close()
        self.blocks.close()


@dataclass(slots=True)
class Leaving:
    """A message on its way out."""

    listening: Listening
    channel: Channel
    outgoing: Outgoing

    def wait(self, timeout: float) -> None:
        """Blocks until its bytes have left the tensor, and the other process can read them."""
        if not self.channel.gone(self.outgoing):
            self.listening.until(lambda: self.channel.gone(self.outgoing), lambda: [self.channel], timeout)


@dataclass(slots=True)
class Coming:
    """A message that is expected."""

    listening: Listening
    channel: Channel
    message: Message

    def wait(self, timeout: float) -> Tensor:
        """Blocks until it is here."""
        arrived = self.channel.arrived[self.message.id]
        if not arrived:
            self.listening.until(lambda: arrived, lambda: [self.channel], timeout)
        tensor, type = arrived.popleft()
        return tensor if type is self.message.type else wire.typed(tensor, self.message.type)
