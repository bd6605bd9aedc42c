"""The named schedules that a search has to match."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

from funpipe._errors import ScheduleError
from funpipe.schedules.base import Schedule
from funpipe.schedules.codes import is_kind
from funpipe.schedules.registry import SCHEDULES
from funpipe.schedules.search_problem import Problem
from funpipe.schedules.table import Table


@dataclass(frozen=True)
class Named:
    """A named schedule's table for a problem, and how long it takes there."""

    schedule: Schedule
    problem: Problem
    table: Table
    makespan: float


def named_that_fit(problems: Sequence[Problem], stage_counts: Sequence[int]) -> list[Named]:
    """The named schedules that stay within the limits, the shortest first.

    Args:
        problems: the placements that come into question, with times and limits.
        stage_counts: the numbers of stages per rank for schedules that leave it open.

    Returns:
        May be empty. A schedule that does not exist for these numbers of ranks and microbatches is not in it.
    """
    by_placement = {problem.placement: problem for problem in problems}
    tables = _tables(by_placement, stage_counts, problems[0].num_ranks, problems[0].num_microbatches)
    found = [one for schedule, table in tables if (one := _fitting(by_placement[table.placement], schedule, table))]
    return sorted(found, key=lambda one: one.makespan)


def _fitting(problem: Problem, schedule: Schedule, table: Table) -> Named | None:
    if not problem.split and is_kind(table.cells, "I", "W").any():
        return None
    sim = problem.simulate(table)
    return Named(schedule, problem, table, sim.makespan) if problem.fits(sim.peak_activations) else None


def _tables(
    placements: Mapping[tuple[int, ...], Problem], stage_counts: Sequence[int], num_ranks: int, num_microbatches: int
) -> Iterator[tuple[Schedule, Table]]:
    """The tables of all schedules that train and have one of the placements."""
    for schedule in every_schedule(stage_counts, placements):
        try:
            if schedule.placement(num_ranks) not in placements:
                continue
            table = schedule.table(num_ranks, num_microbatches)
        except ScheduleError:
            continue  # it does not exist for these numbers, so it is nothing to match
        if is_kind(table.cells, "B", "I").any():
            yield schedule, table


def every_schedule(stage_counts: Sequence[int], placements: Iterable[tuple[int, ...]]) -> Iterator[Schedule]:
    """Each schedule of the registry, with each number of stages per rank or each placement where that is open."""
    options = {"stages_per_rank": stage_counts, "stage_to_rank": tuple(placements)}
    for schedule in dict.fromkeys(SCHEDULES.values()):
        given = {option.name for option in fields(cast("type[Any]", schedule))}
        name = next((name for name in options if name in given), None)
        yield from [schedule()] if name is None else (schedule(**{name: value}) for value in options[name])
