"""What a rank may hold: the limit that a cut must keep, and what it counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from funpipe._errors import FunpipeTypeError, StageError
from funpipe.schedules import Table
from funpipe.schedules.codes import is_kind, pair_of


@final
@dataclass(frozen=True)
class Memory:
    """The memory of a rank, and how much of it a stage takes.

    A rank holds, summed over its stages: each parameter and buffer that they read, once; for each trained parameter
    that lives there the optimizer's slots, and for each place that adds to its gradient an accumulator; and what a
    forward saves for its backward, for each microbatch in flight. Inputs do not count, nor does what lives within a
    region.

    Args:
        limit: the bytes that a rank may hold.
        in_flight: the microbatches whose saved values a stage holds at once: one number, or one for each stage; None:
            as in 1F1B, the number of stages from this one to the last.
        slots: the bytes of optimizer state for each byte of a trained parameter: 2 for Adam, 1 for momentum.
        placement: the rank of each stage; None: each stage has a rank of its own.

    Example:
        >>> from funpipe.schedules import OneFOneB
        >>> Memory.of(OneFOneB().table(num_ranks=3, num_microbatches=2), limit=2**30)
        Memory(limit=1073741824, in_flight=(2, 2, 1), slots=2.0, placement=(0, 1, 2))
    """

    limit: int
    in_flight: int | tuple[int, ...] | None = None
    slots: float = 2.0
    placement: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.limit, int) or isinstance(self.limit, bool):
            raise FunpipeTypeError(f"a memory limit is {self.limit!r}; pass the number of bytes as an int.")
        if self.limit < 0 or self.slots < 0:
            raise StageError(
                f"a memory limit is {self.limit} bytes with {self.slots} slots; pass numbers of at least 0."
            )
        for name in ("in_flight", "placement"):
            value = getattr(self, name)
            if isinstance(value, Sequence):
                object.__setattr__(self, name, tuple(map(int, value)))

    @staticmethod
    def of(table: Table, limit: int, slots: float = 2.0) -> "Memory":
        """The memory that ranks need which run a schedule: in flight is the most that each stage ever holds.

        Args:
            table: the schedule's table.
            limit: the bytes that a rank may hold.
            slots: as above.
        """
        change = is_kind(table.cells, "F").astype(np.int64) - is_kind(table.cells, "B", "W")
        stage = pair_of(table.cells) // table.num_microbatches
        rows = [(table.placement[s], s) for s in range(table.num_stages)]
        peaks = (np.where(stage[rank] == s, change[rank], 0).cumsum().max() for rank, s in rows)
        return Memory(limit, tuple(map(int, peaks)), slots, tuple(table.placement))

    def stages_in_flight(self, num_stages: int) -> np.ndarray:
        """The microbatches in flight of each stage, int64.

        Raises:
            StageError: they are given for another number of stages, or one is negative.
        """
        wanted = np.arange(num_stages, 0, -1) if self.in_flight is None else np.array(self.in_flight, np.int64)
        if wanted.shape not in ((), (num_stages,)) or (wanted < 0).any():
            raise StageError(
                f"in_flight is {self.in_flight}, but there are {num_stages} stages: pass one number of at least 0, or "
                f"{num_stages}, one for each stage."
            )
        return np.broadcast_to(wanted, (num_stages,))

    def ranks(self, num_stages: int) -> tuple[int, ...]:
        """The rank of each stage.

        Raises:
            StageError: they are given for another number of stages.
        """
        if self.placement is not None and len(self.placement) != num_stages:
            raise StageError(
                f"placement {self.placement} has {len(self.placement)} stages, but the model is cut into {num_stages}: "
                f"give the rank of each of the {num_stages} stages."
            )
        return tuple(range(num_stages)) if self.placement is None else self.placement
