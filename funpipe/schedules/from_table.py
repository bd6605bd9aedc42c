"""A user's own table as a schedule."""

from dataclasses import dataclass
from typing import final

from funpipe.schedules.base import Schedule
from funpipe.schedules.check import check
from funpipe.schedules.constraints import equal_to
from funpipe.schedules.table import Table


@final
@dataclass(frozen=True)
class FromTable(Schedule):
    """The schedule that is one given table; it exists for that table's ranks and microbatches only.

    Args:
        fixed: the table.

    Raises:
        ScheduleError: the table does not pass `check`.

    Example:
        >>> from funpipe.schedules import GPipe
        >>> mine = GPipe().table(num_ranks=2, num_microbatches=4)
        >>> FromTable(mine).table(num_ranks=2, num_microbatches=4) == mine
        True
    """

    fixed: Table

    def __post_init__(self) -> None:
        check(self.fixed)

    def placement(self, num_ranks: int) -> tuple[int, ...]:
        """The table's own; see `Schedule.placement`."""
        equal_to(self.fixed.num_ranks, num_ranks, "num_ranks", self)
        return self.fixed.placement

    def table(self, num_ranks: int, num_microbatches: int) -> Table:
        """The given table; see `Schedule.table`."""
        equal_to(self.fixed.num_ranks, num_ranks, "num_ranks", self)
        equal_to(self.fixed.num_microbatches, num_microbatches, "num_microbatches", self)
        return self.fixed
