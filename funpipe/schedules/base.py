"""What every schedule is: a frozen value that gives a table for a number of ranks and of microbatches."""

from abc import ABC, abstractmethod
from dataclasses import fields
from typing import Any, cast, final

from funpipe.schedules.table import Table


class Schedule(ABC):
    """The base of all schedules. A subclass is final: a frozen dataclass whose fields are its options.

    Example:
        >>> from funpipe.schedules import GPipe
        >>> GPipe().placement(num_ranks=3), GPipe().num_stages(num_ranks=3)
        ((0, 1, 2), 3)
    """

    @abstractmethod
    def table(self, num_ranks: int, num_microbatches: int) -> Table:
        """The order in which each rank runs its tasks.

        Args:
            num_ranks: ranks along the pipeline.
            num_microbatches: microbatches of a step (of each replica).

        Returns:
            A table that passes `check`.

        Raises:
            ScheduleError: the schedule does not exist for these numbers; the nearest valid ones are named.
        """

    @abstractmethod
    def placement(self, num_ranks: int) -> tuple[int, ...]:
        """The rank of each stage.

        Args:
            num_ranks: ranks along the pipeline.

        Returns:
            One rank for each stage, in the order of the stages.

        Raises:
            ScheduleError: the schedule does not exist for this number.
        """

    @final
    def num_stages(self, num_ranks: int) -> int:
        """How many stages the schedule needs.

        Args:
            num_ranks: ranks along the pipeline.

        Returns:
            The number of stages on all ranks.

        Raises:
            ScheduleError: the schedule does not exist for this number.
        """
        return len(self.placement(num_ranks))

    def __repr__(self) -> str:
        """The class and its options; an option that is None is left out."""
        named = {field.name: getattr(self, field.name) for field in fields(cast(Any, self))}
        options = ", ".join(f"{name}={value!r}" for name, value in named.items() if value is not None)
        return f"{type(self).__name__}({options})"
