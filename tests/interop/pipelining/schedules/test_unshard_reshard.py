import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.pipelining import schedules as theirs

from funpipe.interop.pipelining.schedules import RESHARD, UNSHARD, _add_unshard_reshard
from funpipe.interop.pipelining.schedules.action import parts
from tests.interop.pipelining.schedules.grids import Grid, any_row, every_grid
from tests.interop.pipelining.schedules.made import as_text, as_theirs, row


@pytest.mark.parametrize("most", [1, 3])
@every_grid
def test_rows_are_those_of_torch(name, p, m, most):
    for actions in Grid(name, p, m).rows.values():
        expected = theirs._add_unshard_reshard(as_theirs({0: actions})[0], most)
        assert as_text(_add_unshard_reshard(actions, most)) == as_text(expected)


@given(any_row, st.integers(1, 5))
def test_any_row_becomes_that_of_torch(actions, most):
    expected = theirs._add_unshard_reshard(as_theirs({0: actions})[0], most)
    assert as_text(_add_unshard_reshard(actions, most)) == as_text(expected)


@given(any_row, st.integers(1, 5))
def test_parameters_are_there_when_they_are_needed(actions, most):
    held = set()
    for action in _add_unshard_reshard(actions, most):
        if action.computation_type in (UNSHARD, RESHARD):
            assert (action.stage_index in held) == (action.computation_type is RESHARD)
            held ^= {action.stage_index}
            assert len(held) <= most + 1
        else:
            assert {part.stage_index for part in parts(action)} <= held
    assert not held


@given(any_row)
def test_the_row_is_left_as_it_is(actions):
    before = copy.deepcopy(actions)
    _add_unshard_reshard(actions)
    assert actions == before


def test_by_default_three_stages_are_there():
    assert as_text(_add_unshard_reshard(row("0F0 2F0 4F0 6F0"))[:4]) == ["0UNSHARD", "2UNSHARD", "4UNSHARD", "0F0"]
