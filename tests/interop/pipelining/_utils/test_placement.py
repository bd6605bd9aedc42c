import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.pipelining import _utils as theirs

from funpipe import FunpipeError
from funpipe.interop.pipelining._utils import generate_rank_to_stage_mapping, generate_stage_to_rank_mapping


def test_in_a_loop():
    assert generate_stage_to_rank_mapping(2, 5) == {0: 0, 1: 1, 2: 0, 3: 1, 4: 0}
    assert generate_rank_to_stage_mapping(2, 5) == {0: [0, 2, 4], 1: [1, 3]}


def test_back_and_forth():
    assert generate_stage_to_rank_mapping(2, 6, "v") == {0: 0, 1: 1, 2: 1, 3: 0, 4: 0, 5: 1}
    assert generate_rank_to_stage_mapping(2, 6, "v") == {0: [0, 3, 4], 1: [1, 2, 5]}


@given(st.integers(1, 6), st.integers(1, 4), st.sampled_from(["loop", "v"]))
def test_as_in_torch(ranks, rounds, style):
    given_ = (ranks, ranks * rounds, style)
    assert generate_stage_to_rank_mapping(*given_) == theirs.generate_stage_to_rank_mapping(*given_)
    assert generate_rank_to_stage_mapping(*given_) == theirs.generate_rank_to_stage_mapping(*given_)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((3, 5, "v"), "num_stages 5 must be evenly divisible by pp_size 3 for V schedules; use 6 stages"),
        ((4, 1, "v"), "use 4 stages"),
        ((2, 2, "w"), "Style w is not supported; use 'loop' or 'v'"),
    ],
)
def test_what_has_no_placement(args, text):
    for function in (generate_stage_to_rank_mapping, generate_rank_to_stage_mapping):
        with pytest.raises(ValueError, match=text) as raised:
            function(*args)
        assert isinstance(raised.value, FunpipeError)
