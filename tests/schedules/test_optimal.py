"""No table can beat the best that there is: a check of the simulator, which would be wrong if one did."""

from contextlib import suppress

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from funpipe._errors import ScheduleError
from funpipe.schedules import GPipe, OneFOneB, simulate
from funpipe.schedules.codes import is_kind
from funpipe.schedules.registry import SCHEDULES
from tests.schedules.optimal import best_makespan
from tests.schedules.tables import tables

TIMES = [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2)]  # F, I, W
SIZES = [(p, m) for p in (1, 2, 3) for m in (1, 2, 3)]


def best_of(table, F, I, W):
    """The best makespan of all tables of these stages, with the backward whole where the table has it whole."""
    split = is_kind(table.cells, "I", "W").any()
    return best_makespan(table.placement, table.num_microbatches, (F, I, W) if split else (F, I + W))


def library():
    """Every schedule with every size for which it exists."""
    for name, schedule in sorted(SCHEDULES.items()):
        for p, m in SIZES:
            with suppress(ScheduleError):
                yield pytest.param(schedule().table(p, m), id=f"{name}-{p}-{m}")


@pytest.mark.parametrize("table", [param for param in library() if is_kind(param.values[0].cells, "B", "I").any()])
def test_no_schedule_is_faster_than_the_best(table):
    for F, I, W in TIMES:
        assert simulate(table, F=F, I=I, W=W).makespan >= best_of(table, F, I, W)


@settings(max_examples=30, deadline=None)
@given(tables(), st.sampled_from(TIMES))
def test_no_table_is_faster_than_the_best(table, times):
    assume(table.num_microbatches < 3)
    F, I, W = times
    assert simulate(table, F=F, I=I, W=W).makespan >= best_makespan(table.placement, table.num_microbatches, times)


@pytest.mark.parametrize(("p", "m"), SIZES)
@pytest.mark.parametrize("schedule", [GPipe(), OneFOneB()])
def test_with_one_stage_on_a_rank_and_whole_backwards_these_are_the_best(schedule, p, m):
    for F, I, W in TIMES:
        assert simulate(schedule.table(p, m), F=F, I=I, W=W).makespan == best_makespan((*range(p),), m, (F, I + W))


@pytest.mark.parametrize(
    ("placement", "m", "times", "best"),
    [
        ((0,), 3, (1, 2), 9),  # one rank has only its work
        ((0, 1), 1, (1, 2), 6),  # one microbatch goes through all stages and back
        ((0, 1, 2), 2, (1, 2), (2 + 3 - 1) * 3),  # one rank more costs one F and one B
        ((0, 1), 1, (1, 1, 1), 5),  # 0F 1F 1I 0I 0W: the last rank's W runs beside it
        ((0, 1), 2, (1, 1, 1), 7),  # 0F0 0F1 . 0I0 0I1 0W0 0W1 waits one slot
        ((0, 1, 1, 0), 1, (1, 1), 8),  # a V of one microbatch is a chain
    ],
)
def test_the_best_by_hand(placement, m, times, best):
    assert best_makespan(placement, m, times) == best
