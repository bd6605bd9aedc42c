import copy

from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.pipelining import schedules as theirs

from funpipe.interop.pipelining.schedules import _add_reduce_grad
from funpipe.interop.pipelining.schedules.grid import busy
from tests.interop.pipelining.schedules.grids import Grid, any_row, every_grid
from tests.interop.pipelining.schedules.made import as_text, as_theirs, row


@every_grid
def test_it_is_where_torch_puts_it(name, p, m):
    for actions in Grid(name, p, m).rows.values():
        expected = theirs._add_reduce_grad(as_theirs({0: actions})[0], m)
        assert as_text(busy(_add_reduce_grad(actions, m))) == as_text(expected)


@given(any_row, st.integers(1, 3))
def test_any_row_gets_what_torch_adds(actions, n):
    expected = theirs._add_reduce_grad(as_theirs({0: actions})[0], n)
    assert as_text(busy(_add_reduce_grad(actions, n))) == as_text(expected)


def test_both_parts_of_an_overlap_count():
    found = _add_reduce_grad(row("(1F0;0B0)OVERLAP_F_B 1I0 1W0 1RESHARD"), 1)
    assert as_text(found) == as_text(row("(1F0;0B0)OVERLAP_F_B 0REDUCE_GRAD 1I0 1W0 1REDUCE_GRAD 1RESHARD"))


def test_idle_cells_stay():
    """torch drops them, so that the rows of GPipe and 1F1B lose their bubbles."""
    assert as_text(_add_reduce_grad(row(". 0F0 . 0B0 ."), 1)) == as_text(row(". 0F0 . 0B0 0REDUCE_GRAD ."))


def test_a_stage_is_reduced_once():
    """torch adds a second one."""
    done = _add_reduce_grad(row("0F0 0B0"), 1)
    assert _add_reduce_grad(done, 1) == done


def test_a_stage_that_is_not_done_is_not_reduced():
    assert _add_reduce_grad(row("0F0 0B0"), 2) == row("0F0 0B0")


@given(any_row)
def test_the_row_is_left_as_it_is(actions):
    before = copy.deepcopy(actions)
    _add_reduce_grad(actions, 1)
    assert actions == before
