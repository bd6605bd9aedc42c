"""Collectives between the threads of one process: everybody lays down a copy, and reads the others'."""

from collections import defaultdict
from dataclasses import dataclass

from torch import Tensor

from funpipe._errors import TransportError
from funpipe.backends.transport import Group
from funpipe.runtime.transports import failures
from funpipe.runtime.transports.waiting import Room


@dataclass(frozen=True)
class Call:
    """One collective; the ranks' n-th calls meet, and must be of one kind and form."""

    kind: str
    number: int
    group: Group
    form: int = 0


class Gathering:
    """The tensors that the ranks have laid down for each collective."""

    def __init__(self, room: Room, num_ranks: int) -> None:
        self.room = room
        self.num_ranks = num_ranks
        self.laid: dict[Call, dict[int, Tensor]] = defaultdict(dict)
        self.readers: dict[Call, int] = defaultdict(int)

    def lay(self, call: Call, rank: int, tensor: Tensor) -> None:
        """Adds this rank's copy."""
        with self.room.changed:
            self.laid[call][rank] = tensor.detach().clone()
            self.room.changed.notify_all()

    def read(self, call: Call, rank: int) -> list[Tensor]:
        """Blocks until all are there; returns them by rank. The last reader clears the place."""
        with self.room.changed:
            laid = self.laid[call]
            self.room.wait_for(lambda: len(laid) == self.num_ranks, rank, call.kind, lambda: self.late(call, rank))
            self.readers[call] += 1
            if self.readers[call] == self.num_ranks:
                del self.laid[call], self.readers[call]
        return [laid[r] for r in range(self.num_ranks)]

    def late(self, call: Call, rank: int) -> TransportError:
        """Some rank never called."""
        absent = [r for r in range(self.num_ranks) if r not in self.laid[call]]
        return TransportError(
            f"rank {rank}: {call.kind} over {call.group!r} (its collective number {call.number}): ranks {absent} have "
            f"not called it within {self.room.timeout:g} s; {failures.COMPARE}"
        )
