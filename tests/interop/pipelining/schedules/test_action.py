import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.pipelining import schedules as theirs

from funpipe import FunpipeError
from funpipe.interop.pipelining.schedules import (
    OVERLAP_F_B,
    F,
    _Action,
    _ComputationType,
    _get_profiler_function_name,
)

SINGLE = st.builds(
    _Action,
    st.integers(0, 10**9 - 1),
    st.sampled_from([kind for kind in _ComputationType if kind is not OVERLAP_F_B]),
    st.none() | st.integers(0, 10**9 - 1),
    st.none(),
)
ACTIONS = SINGLE | st.lists(SINGLE, min_size=1, max_size=3).map(lambda s: _Action(-1, OVERLAP_F_B, None, tuple(s)))


@given(ACTIONS)
def test_what_is_written_is_read(action):
    assert _Action.from_str(str(action)) == action


@given(ACTIONS)
def test_torch_writes_and_reads_the_same(action):
    assert str(theirs._Action.from_str(str(action))) == str(action) == repr(action)


@given(ACTIONS)
def test_it_can_be_pickled(action):
    assert pickle.loads(pickle.dumps(action)) == action


@given(st.text(max_size=30) | st.text("0123456789FBIWSENDRCV_();OLAP ", max_size=30))
def test_any_text_is_read_or_refused(text):
    """What is read prints as what stood there, but for spaces and leading zeros; nothing else ever happens."""
    try:
        action = _Action.from_str(text)
    except RuntimeError as error:
        assert isinstance(error, FunpipeError)
    else:
        assert (action is None) == (not text.strip(" \t\r\n"))
        assert _Action.from_str(str(action or "")) == action


def test_it_unpacks_in_four():
    stage, kind, microbatch, parts = _Action(2, F, 1)
    assert (stage, kind, microbatch, parts) == (2, F, 1, None)


def test_it_is_replaced_and_compared_as_a_tuple_is():
    assert _Action(2, F, 1)._replace(microbatch_index=2) == (2, F, 2, None)
    assert _Action._fields == theirs._Action._fields


@pytest.mark.parametrize("kind", _ComputationType)
def test_it_knows_whether_it_computes(kind):
    known = theirs._Action(0, theirs._ComputationType(kind.value), 0).is_compute_op
    assert _Action(0, kind, 0).is_compute_op == known


@pytest.mark.parametrize("text", ["", " ", "\t"])
def test_nothing_is_an_idle_cell(text):
    assert _Action.from_str(text) is None


@pytest.mark.parametrize(
    "text",
    ["0F0junk", "0F 0", "F0", "0f0", "-1F0", "0X0", "0OVERLAP_F_B", "()OVERLAP_F_B", "(0F0;1B1)OVERLAP_F_Bx"]
    + ["((0F0;1B1)OVERLAP_F_B;1B1)OVERLAP_F_B", "(0F0;)OVERLAP_F_B", "0F" + 10 * "1", "0F\u0661", "0F0\n1F0"],
)
def test_only_whole_actions_are_read(text):
    """torch reads `0F0junk` as 0F0, `0F 0` as 0F without a microbatch, and `()OVERLAP_F_B` as two of nothing."""
    with pytest.raises(RuntimeError, match=r"Invalid action string: .* should be formatted as \[stage\]"):
        _Action.from_str(text)


def test_an_error_shows_no_more_than_the_beginning():
    with pytest.raises(RuntimeError) as raised:
        _Action.from_str("\x1b[31m" + 10**6 * "x")
    assert len(str(raised.value)) < 200 and "\x1b" not in str(raised.value)


@pytest.mark.parametrize("text", ["2F0", "2UNSHARD", "(0F0;1B1)OVERLAP_F_B"])
def test_its_name_in_a_profile_is_that_of_torch(text):
    assert _get_profiler_function_name(_Action.from_str(text)) == theirs._get_profiler_function_name(
        theirs._Action.from_str(text)
    )
