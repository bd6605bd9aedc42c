"""What each rank of a group lays down for the others, as it comes in: a rank's n-th meets the others' n-th."""

from collections import defaultdict
from collections.abc import Sequence
from weakref import WeakValueDictionary

from funpipe.runtime.transports.channel import Channel, Outgoing
from funpipe.runtime.transports.part import Part


class Meeting:
    """One gathering.

    Args:
        ranks: who lays something down, global ranks.
        rank: this one.
        part: what it lays down if it is one of them.
    """

    def __init__(self, ranks: Sequence[int], rank: int, part: Part) -> None:
        self.ranks, self.form, self.number = ranks, part.form, 0
        self.parts: dict[int, Part] = {rank: part} if rank in ranks else {}
        self.others: list[int] = []
        self.leaving: list[tuple[Channel, Outgoing | None]] = []

    @property
    def over(self) -> bool:
        """Whether every rank's part is here, or one that does not belong here."""
        return len(self.parts) == len(self.ranks) or bool(self.others)

    @property
    def known(self) -> bool:
        """Whether the other ranks can read this one's part, those that have not ended."""
        return all(channel.ended or channel.gone(outgoing) for channel, outgoing in self.leaving)

    @property
    def absent(self) -> list[int]:
        """Whose parts are not here yet."""
        return [rank for rank in self.ranks if rank not in self.parts]

    def follow(self, channel: Channel, outgoing: Outgoing | None = None) -> None:
        """Notes that this rank's part is on its way, if there was no room to send it.

        Args:
            channel: by which it goes.
            outgoing: that must leave; None: the part was said.
        """
        if not channel.gone(outgoing):
            self.leaving.append((channel, outgoing))

    def lay(self, rank: int, part: Part) -> None:
        """Adds another rank's part."""
        self.parts[rank] = part
        if part.form != self.form:
            self.others.append(rank)

    def require_one(self) -> None:
        """Raises unless the parts that are here are meant for one collective.

        Raises:
            RuntimeError: a rank has laid down something else; it is named.
        """
        if self.others:
            raise RuntimeError(
                f"as number {self.number} over this group global rank {min(self.others)} started another collective, "
                "or one of other shapes or dtypes: start the same ones in the same order on all ranks"
            )


class Meetings:
    """Those under way. One that nobody waits for any more is forgotten, and what comes for it later is dropped."""

    def __init__(self) -> None:
        self.started: dict[int, int] = defaultdict(int)
        self.held: WeakValueDictionary[tuple[int, int], Meeting] = WeakValueDictionary()
        self.early: dict[tuple[int, int], dict[int, Part]] = defaultdict(dict)

    def start(self, kind: int, meeting: Meeting) -> int:
        """Begins the next one of a kind; returns its number."""
        number = meeting.number = self.started[kind] = self.started[kind] + 1
        self.held[kind, number] = meeting
        for rank, part in self.early.pop((kind, number), {}).items():
            meeting.lay(rank, part)
        return number

    def lay(self, kind: int, number: int, rank: int, part: Part) -> None:
        """Adds another rank's part, which may come before this rank has begun."""
        if number > self.started[kind]:
            self.early[kind, number][rank] = part
        elif (meeting := self.held.get((kind, number))) is not None:
            meeting.lay(rank, part)
