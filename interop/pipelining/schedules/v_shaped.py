"""The two schedules whose two stages on each rank lie in a V: stages r and 2p - 1 - r on rank r."""

import funpipe as fp
from funpipe.interop.pipelining.errors import PipeValueError
from funpipe.interop.pipelining.schedules.tabled import TabledSchedule
from funpipe.schedules import Overlap, Table


class ScheduleZBVZeroBubble(TabledSchedule):
    """ZBV, split backwards in a V; its table is `fp.schedules.ZBV`'s.

    With fewer than 2p - 1 microbatches it is the table of so many without those that there are not.

    Raises:
        PipeValueError: there are not exactly two stages.
    """

    def _table(self) -> Table:
        self._require_two_stages("ZBV")
        p, n = self.pp_group_size, self._n_microbatches
        return first_microbatches(fp.schedules.ZBV().table(p, max(n, 2 * p - 1)), n)


class ScheduleDualPipeV(TabledSchedule):
    """DualPipeV, forwards and backwards at once in a V; its table is `fp.schedules.DualPipeV`'s.

    Raises:
        PipeValueError: there are not exactly two stages, or fewer microbatches than stages.
    """

    def _table(self) -> Table:
        self._require_two_stages("DualPipeV")
        if self._n_microbatches < self._num_stages:
            raise PipeValueError(
                "DualPipeV requires at least as many microbatches as stages, but got "
                f"{self._n_microbatches} microbatches and {self._num_stages} stages; use "
                f"n_microbatches={self._num_stages}."
            )
        return fp.schedules.DualPipeV().table(self.pp_group_size, self._n_microbatches)


def first_microbatches(table: Table, count: int) -> Table:
    """A table without overlaps of which only the first microbatches run.

    Args:
        table: the table.
        count: how many stay; the table itself where that is all.

    Example:
        >>> first_microbatches(fp.schedules.GPipe().table(1, 3), 1).order(0)
        (Task(kind='F', stage=0, microbatch=0), Task(kind='B', stage=0, microbatch=0))
    """
    if count == table.num_microbatches:
        return table
    rows = [
        [task if task and not isinstance(task, Overlap) and task.microbatch < count else None for task in row]
        for row in table.rows
    ]
    return fp.schedules.squeeze(Table.from_rows(rows, placement=table.placement, num_microbatches=count))
