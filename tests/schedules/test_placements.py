import pytest

from funpipe._errors import ScheduleError
from funpipe.schedules import GPipe, OneFOneB
from funpipe.schedules.placements import chosen, loop, vee


def test_ways_round_the_ranks():
    assert loop(2, 3, "x") == (0, 1, 0, 1, 0, 1)
    assert vee(2) == (0, 1, 1, 0)
    assert chosen(None, 3, "x") == (0, 1, 2)
    assert chosen([1, 0, 1], 2, "x") == (1, 0, 1)


@pytest.mark.parametrize(
    ("ranks", "stages", "text"), [(0, 2, "num_ranks=0 is"), (2, 0, "stages_per_rank=0 is below 1")]
)
def test_a_loop_has_at_least_one_of_each(ranks, stages, text):
    with pytest.raises(ScheduleError, match=f"x: {text}"):
        loop(ranks, stages, "x")


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_map_is_for_its_own_ranks(ranks):
    message = rf"\(0, 1, 1\)\) places stages on the ranks \[0, 1\], but there are {ranks}; use num_ranks=2"
    with pytest.raises(ScheduleError, match=message):
        GPipe(stage_to_rank=(0, 1, 1)).table(ranks, 4)


def test_a_map_leaves_no_rank_out():
    with pytest.raises(ScheduleError, match=r"ranks \[0, 2\], but there are 3; place at least one .* ranks 0 to 2\."):
        OneFOneB(stage_to_rank=(0, 2)).placement(3)


@pytest.mark.parametrize("stage_to_rank", [(), (-1, 0), (1, 2)])
def test_no_number_of_ranks_is_proposed_for_a_map_that_has_none(stage_to_rank):
    with pytest.raises(ScheduleError, match="but there are 1; place at least one stage on each of the ranks 0 to 0"):
        chosen(stage_to_rank, 1, "x")


@pytest.mark.parametrize("stage_to_rank", [(0, 0.5), (0, 1.0), "01", 3])
def test_a_map_is_of_integers(stage_to_rank):
    with pytest.raises(ScheduleError, match="is no map of stages to ranks; pass an integer for each stage"):
        chosen(stage_to_rank, 2, "x")
