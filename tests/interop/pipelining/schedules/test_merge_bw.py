import copy

from hypothesis import given
from torch.distributed.pipelining import schedules as theirs

from funpipe.interop.pipelining.schedules import _merge_bw
from tests.interop.pipelining.schedules.grids import Grid, any_row, every_grid
from tests.interop.pipelining.schedules.made import as_text, as_theirs, row


@every_grid
def test_rows_are_those_of_torch(name, p, m):
    for actions in Grid(name, p, m).rows.values():
        assert as_text(_merge_bw(actions)) == as_text(theirs._merge_bw(as_theirs({0: actions})[0]))


@given(any_row)
def test_any_row_becomes_that_of_torch(actions):
    assert as_text(_merge_bw(actions)) == as_text(theirs._merge_bw(as_theirs({0: actions})[0]))


def test_only_a_backward_of_one_stage_and_microbatch_is_merged():
    assert _merge_bw(row("0I0 . 0W0 0I1 0W2 0I3 1W3")) == row("0B0 0I1 0W2 0I3 1W3")


@given(any_row)
def test_the_row_is_left_as_it_is(actions):
    """torch empties it."""
    before = copy.deepcopy(actions)
    _merge_bw(actions)
    assert actions == before
