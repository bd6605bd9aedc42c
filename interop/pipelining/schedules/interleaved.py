"""The two schedules that go through several stages on each rank in rounds of microbatches."""

from itertools import count

import funpipe as fp
from funpipe.interop.pipelining.errors import PipeValueError
from funpipe.interop.pipelining.schedules.tabled import TabledSchedule
from funpipe.schedules import Table


class InRounds(TabledSchedule):
    """A schedule whose microbatches go through in rounds of one size, of as many as there are ranks or more."""

    _NAME: str
    """What errors call the schedule."""

    def _set_rounds(self) -> None:
        """Sets how many rounds there are, and how many microbatches each has."""
        n, p = self._n_microbatches, self.pp_group_size
        self.number_of_rounds = max(1, n // p)
        self.microbatches_per_round = n // self.number_of_rounds
        if n % self.number_of_rounds:
            below, above = (next(m for m in near if not m % max(1, m // p)) for near in (range(n, 0, -1), count(n)))
            raise PipeValueError(
                f"{self._NAME} requires the number of microbatches to be a multiple of the number of rounds "
                f"({self.number_of_rounds}), but got {n}. Use n_microbatches={below} or n_microbatches={above}."
            )


class ScheduleInterleaved1F1B(InRounds):
    """1F1B with several stages on each rank, in a loop; its table is `fp.schedules.Interleaved1F1B`'s.

    Raises:
        PipeValueError: the microbatches do not make rounds of equal size.
    """

    _NAME = "Interleaved 1F1B"

    def _table(self) -> Table:
        self._set_rounds()
        return fp.schedules.Interleaved1F1B(self.n_local_stages).table(self.pp_group_size, self._n_microbatches)


class ScheduleInterleavedZeroBubble(InRounds):
    """The interleaved schedule with split backwards; its table is `fp.schedules.InterleavedZeroBubble`'s.

    Raises:
        PipeValueError: the microbatches do not make rounds of equal size.
    """

    _NAME = "Zero bubble"

    def _table(self) -> Table:
        self._set_rounds()
        return fp.schedules.InterleavedZeroBubble(self.n_local_stages).table(self.pp_group_size, self._n_microbatches)
