"""What holds for every schedule by name."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from funpipe._errors import ScheduleError
from funpipe.schedules import Interleaved1F1B, InterleavedZeroBubble, LoopedBFS, check, simulate, squeeze
from funpipe.schedules.registry import SCHEDULES

FAMILY = [
    *(cls() for cls in dict.fromkeys(SCHEDULES.values())),
    Interleaved1F1B(3),
    LoopedBFS(3),
    InterleavedZeroBubble(3),
]
NUMBERS = [(p, m) for p in (1, 2, 3, 4) for m in (1, 2, 3, 5, 8)]
PACED = ("GPipe", "OneFOneB", "Eager1F1B", "LoopedBFS")


@cache
def tables_of(schedule):
    """Its tables for all numbers for which it exists."""
    tables = []
    for p, m in NUMBERS:
        try:
            tables.append(schedule.table(p, m))
        except ScheduleError as error:
            assert "nearest valid" in str(error)
    return tables


@pytest.mark.parametrize("schedule", FAMILY, ids=repr)
def test_tables_can_run(schedule):
    for table in tables_of(schedule):
        check(table)
        assert table.placement == schedule.placement(table.num_ranks)
        assert table.num_stages == schedule.num_stages(table.num_ranks)


@pytest.mark.parametrize("schedule", FAMILY, ids=repr)
def test_each_stage_goes_through_its_microbatches_in_order(schedule):
    """Buffers are threaded through forwards, and gradients are added up in the order of one device."""
    for table in tables_of(schedule):
        assert [table.ascends(*kinds) for kinds in ("F", "BI", "BW")] == [True, True, True]


@pytest.mark.parametrize("schedule", FAMILY, ids=repr)
def test_tables_are_drawn_as_they_run(schedule):
    """Those that are drawn in the pace of their paper, later than they could run, still run from left to right."""
    for table in tables_of(schedule):
        if type(schedule).__name__ in PACED:
            assert squeeze(table).num_slots <= table.num_slots
        else:
            assert squeeze(table) == table


@pytest.mark.parametrize("schedule", FAMILY, ids=repr)
@given(st.data())
def test_a_swap_that_breaks_a_need_is_refused(schedule, data):
    """A forward and the backward of the same stage and microbatch, the other way round."""
    table = data.draw(st.sampled_from(tables_of(schedule)))
    cells = table.cells.copy()
    forwards = np.argwhere((cells >= 0) & (cells % 4 == 0))
    rank, slot = data.draw(st.sampled_from(forwards.tolist()))
    later = np.flatnonzero(cells[rank] // 4 == cells[rank, slot] // 4)
    later = later[(cells[rank, later] >= 0) & (later > slot)]
    if later.size:
        other = data.draw(st.sampled_from(later.tolist()))
        cells[rank, [slot, other]] = cells[rank, [other, slot]]
        with pytest.raises(ScheduleError, match="which it needs"):
            check(type(table)(cells, table.placement, table.num_microbatches))


@pytest.mark.parametrize("schedule", FAMILY, ids=repr)
def test_one_rank_never_waits(schedule):
    for m in (1, 2, 4):
        try:
            assert simulate(schedule.table(1, m)).bubble == 0
        except ScheduleError as error:
            assert m < 2 and "nearest valid" in str(error)


@pytest.mark.parametrize("schedule", FAMILY, ids=repr)
def test_numbers_beyond_all_tables_are_refused_before_any_array_is_made(schedule):
    for numbers in ((2**40, 2**40), (2, 2**40)):
        with pytest.raises(ScheduleError, match=f"={2**40} is above {2**28}; the nearest valid is num_.*={2**28}"):
            schedule.table(*numbers)


@pytest.mark.parametrize("schedule", FAMILY, ids=repr)
def test_no_ranks_or_microbatches(schedule):
    with pytest.raises(ScheduleError, match=r"num_ranks=0 is below 1; the nearest valid is num_ranks=1\."):
        schedule.table(0, 4)
    with pytest.raises(
        ScheduleError, match=r"num_microbatches=0 is below \d; the nearest valid is num_microbatches=\d\."
    ):
        schedule.table(1, 0)
