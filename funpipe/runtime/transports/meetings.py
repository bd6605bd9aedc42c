"""Tensors that each rank of a group lays down for the others, as they come in: a rank's n-th meets the others' n-th."""

from collections import defaultdict
from collections.abc import Sequence
from weakref import WeakValueDictionary

from torch import Tensor


class Meeting:
    """One gathering.

    Args:
        ranks: who lays something down, global ranks.
        rank: this one.
        part: what it lays down if it is one of them.
    """

    def __init__(self, ranks: Sequence[int], rank: int, part: Tensor) -> None:
        self.ranks = ranks
        self.parts: dict[int, Tensor] = {rank: part} if rank in ranks else {}

    @property
    def complete(self) -> bool:
        """Whether every rank's part is here."""
        return len(self.parts) == len(self.ranks)

    @property
    def absent(self) -> list[int]:
        """Whose parts are not here yet."""
        return [rank for rank in self.ranks if rank not in self.parts]


class Meetings:
    """Those under way. One that nobody waits for any more is forgotten, and what comes for it later is dropped."""

    def __init__(self) -> None:
        self.started: dict[int, int] = defaultdict(int)
        self.held: WeakValueDictionary[tuple[int, int], Meeting] = WeakValueDictionary()
        self.early: dict[tuple[int, int], dict[int, Tensor]] = defaultdict(dict)

    def start(self, kind: int, meeting: Meeting) -> int:
        """Begins the next one of a kind; returns its number."""
        number = self.started[kind] = self.started[kind] + 1
        self.held[kind, number] = meeting
        meeting.parts |= self.early.pop((kind, number), {})
        return number

    def lay(self, kind: int, number: int, rank: int, part: Tensor) -> None:
        """Adds another rank's part, which may come before this rank has begun."""
        if number > self.started[kind]:
            self.early[kind, number][rank] = part
        elif (meeting := self.held.get((kind, number))) is not None:
            meeting.parts[rank] = part
