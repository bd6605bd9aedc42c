import pytest
from hypothesis import given
from torch.distributed.pipelining import schedules as theirs

from funpipe.interop.pipelining.schedules import _format_pipeline_order
from tests.interop.pipelining.schedules.grids import Grid, any_grid, every_grid
from tests.interop.pipelining.schedules.made import as_theirs, rows


@every_grid
def test_the_text_is_that_of_torch(name, p, m):
    grid = Grid(name, p, m)
    assert _format_pipeline_order(grid.rows) == theirs._format_pipeline_order(as_theirs(grid.rows))
    assert _format_pipeline_order(grid.rows, 1) == theirs._format_pipeline_order(as_theirs(grid.rows), 1)


@given(any_grid)
def test_every_action_stands_in_its_line(grid):
    lines = _format_pipeline_order(grid.rows).splitlines()[1:]
    for row in grid.rows.values():
        assert all(str(action) in lines[step] for step, action in enumerate(row) if action)


def test_a_step_is_marked():
    lines = _format_pipeline_order(rows("0F0 0B0", ". 1F0"), error_step_number=1).splitlines()
    assert [line.endswith("<-- ERROR HERE") for line in lines] == [False, False, True]


def test_each_rank_keeps_its_number():
    """torch numbers the columns from 0, whatever ranks they are of."""
    assert _format_pipeline_order({5: rows("0F0")[0], 2: []}).split("\n")[0].split() == ["Rank", "2", "Rank", "5"]


@pytest.mark.parametrize("found", [{}, {0: []}, {0: [], 1: []}])
def test_rows_without_actions_have_a_text(found):
    """torch raises ValueError or IndexError."""
    assert _format_pipeline_order(found).count("Rank") == len(found)


def test_rows_are_left_as_they_are():
    given_rows = rows("0F0 0B0", "1F0")
    _format_pipeline_order(given_rows)
    assert given_rows == rows("0F0 0B0", "1F0")
