"""Rows for passes: those of all schedules, and random ones; and those of torch to compare with."""

import pytest
from hypothesis import strategies as st

from funpipe.interop.pipelining.schedules import _Action, order_of
from tests.interop.pipelining.schedules.made import NAMES, made
from tests.schedules.tables import tables

SIZES = [(1, 2), (2, 4), (2, 8), (3, 6), (4, 8)]
GRIDS = [pytest.param(name, p, m, id=f"{name}-{p}-{m}") for name in NAMES for p, m in SIZES]
every_grid = pytest.mark.parametrize(("name", "p", "m"), GRIDS)


class Grid:
    """The computations of a schedule, idle cells included, with the ranks of its stages."""

    def __init__(self, name, p, m):
        schedule = made(name, p, m)
        self.num_microbatches, self.num_ranks = m, p
        self.num_stages = schedule._num_stages
        self.rank_of = schedule._stage_to_rank().__getitem__
        self.rows = {
            rank: [action for action in row if action is None or action.is_compute_op]
            for rank, row in schedule.pipeline_order.items()
        }


def of_table(table):
    """Any table as a grid."""
    grid = Grid.__new__(Grid)
    grid.num_microbatches, grid.num_ranks, grid.num_stages = table.num_microbatches, table.num_ranks, table.num_stages
    grid.rank_of, grid.rows = table.placement.__getitem__, order_of(table)
    return grid


any_grid = tables().map(of_table)
any_row = st.lists(
    st.none()
    | st.sampled_from("0F0 0F1 2F0 2I0 2W0 2B1 4F0 4I1 4W1 (0F1;2B0)OVERLAP_F_B (2F1;4B0)OVERLAP_F_B".split()).map(
        _Action.from_str
    ),
    max_size=20,
)
