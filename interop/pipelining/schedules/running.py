"""The engine of a schedule: made at the first step, and again when what it was made of is no longer the same."""

from copy import copy
from dataclasses import dataclass, fields
from typing import Any

from funpipe.interop.pipelining.engine import Engine, Options
from funpipe.interop.pipelining.errors import PipeAssertionError
from funpipe.interop.pipelining.schedules.grid import Rows
from funpipe.interop.pipelining.schedules.tables import table_of


@dataclass(frozen=True, eq=False)
class Running:
    """An engine, and what it was made of.

    Args:
        engine: it.
        order: the rows of actions, as they were.
        stage_to_rank: the rank of each stage, as it was.
        options: as they were.
    """

    engine: Any
    order: Rows
    stage_to_rank: dict[int, int]
    options: Options

    def is_made_of(self, order: Rows, stage_to_rank: dict[int, int], options: Options) -> bool:
        """Whether an engine for these would be the same."""
        alike = all(getattr(self.options, f.name) is getattr(options, f.name) for f in fields(options))
        return alike and self.stage_to_rank == stage_to_rank and self.order == order


def run(stages: list[Any], order: Rows, stage_to_rank: dict[int, int], options: Options) -> Running:
    """Makes the engine of this rank's stages.

    Args:
        stages: of this rank.
        order: for each rank its actions.
        stage_to_rank: the rank of each stage.
        options: what the schedule was made with.

    Raises:
        PipeAssertionError: the rows are no schedule, or one of another number of microbatches.
    """
    table = table_of(order, stage_to_rank)
    if table.num_microbatches != options.num_microbatches:
        raise PipeAssertionError(
            f"The schedule has {options.num_microbatches} microbatches, its order {table.num_microbatches}; "
            "make both equal."
        )
    engine = Engine(stages=stages, table=table, options=options)
    return Running(engine, _copied(order), dict(stage_to_rank), options)


def _copied(order: Rows) -> Rows:
    """Rows of the same types, so that they compare equal without being copied again."""
    return {rank: copy(row) for rank, row in order.items()}
