import contextlib
import copy
import io

import pytest
from hypothesis import given
from torch.distributed.pipelining import _schedule_visualizer as theirs

from funpipe.interop.pipelining._schedule_visualizer import add_schedule_op_spacing
from funpipe.interop.pipelining._schedule_visualizer.looks import width_of
from funpipe.interop.pipelining.schedules.action import parts
from funpipe.interop.pipelining.schedules.grid import busy
from funpipe.interop.pipelining.schedules.messages import makers_awaited
from tests.interop.pipelining.schedules.grids import Grid, any_grid, every_grid
from tests.interop.pipelining.schedules.made import VEES, as_text, as_theirs, rows


def of_torch(found):
    with contextlib.redirect_stdout(io.StringIO()):
        return theirs.add_schedule_op_spacing([busy(row) for row in as_theirs(found).values()])


@every_grid
def test_the_waits_are_those_of_torch_where_it_keeps_actions_in_their_rows(name, p, m):
    """torch raises for a single stage, and puts the last actions of a rank into another's row once that one is done."""
    grid = Grid(name, p, m)
    found = [as_text(row) for row in add_schedule_op_spacing(list(grid.rows.values()))]
    assert [[cell for cell in row if cell != "."] for row in found] == [as_text(busy(r)) for r in grid.rows.values()]
    if grid.num_stages == 1:
        with pytest.raises(RuntimeError, match="No progress made in scheduling"):
            of_torch(grid.rows)
        return
    expected = [as_text(row) for row in of_torch(grid.rows)]
    if [sorted(row) for row in found] == [sorted(row) for row in expected]:
        assert found == expected
    else:
        assert name in VEES and p > 1


@given(any_grid)
def test_nothing_begins_before_what_it_needs_has_ended(grid):
    found = add_schedule_op_spacing(list(grid.rows.values()))
    stages = set(range(grid.num_stages))
    begins, ends = {}, {}
    for row in found:
        column = 0
        for action in row:
            for part in parts(action) if action else ():
                begins[part], ends[part] = column, column + width_of(action)
            column += width_of(action)
    for part, begin in begins.items():
        for makers in makers_awaited(part, stages):
            assert min(ends[maker] for maker in makers if maker in ends) <= begin


def test_a_whole_backward_takes_two_columns_and_an_overlap_three():
    found = add_schedule_op_spacing(list(rows("0F0 0F1 0B0 0B1", "1F0 1B0 1F1 1B1").values()))
    assert [as_text(row) for row in found] == [
        ["0F0", "0F1", ".", ".", "0B0", ".", "0B1"],
        [".", "1F0", "1B0", "1F1", "1B1", "."],
    ]
    assert width_of(rows("(0F1;1B0)OVERLAP_F_B")[0][0]) == 3


def test_idle_cells_are_passed_over():
    """torch waits twice for each."""
    with_idle = add_schedule_op_spacing(list(rows("0F0 . . 0B0", ". . 1F0 1B0").values()))
    assert with_idle == add_schedule_op_spacing(list(rows("0F0 0B0", "1F0 1B0").values()))


def test_reductions_are_kept():
    """torch raises RuntimeError."""
    assert as_text(add_schedule_op_spacing([rows("0F0 0B0 0REDUCE_GRAD")[0]])[0]) == ["0F0", "0B0", "0REDUCE_GRAD"]


def test_ranks_that_wait_for_each_other_are_refused():
    with pytest.raises(RuntimeError, match=r"(?s)No progress made in scheduling - possible deadlock.*0B0"):
        add_schedule_op_spacing(list(rows("0B0 0F0", "1F0 1B0").values()))


def test_rows_are_left_as_they_are():
    found = list(rows("0F0 . 0B0", "1F0 1B0").values())
    before = copy.deepcopy(found)
    add_schedule_op_spacing(found)
    assert found == before
