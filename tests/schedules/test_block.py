import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from funpipe.schedules import OneFOneB, Table, check, squeeze
from funpipe.schedules.block import fill, repeat, straight

maps = st.integers(1, 4).flatmap(
    lambda p: st.lists(st.integers(0, p - 1), max_size=4).flatmap(lambda more: st.permutations([*range(p), *more]))
)


def test_a_microbatch_comes_again_each_period():
    assert repeat({"F": np.array([0, 5])}, 4, 3)["F"].tolist() == [[0, 4, 8], [5, 9, 13]]


@given(maps, st.integers(1, 6))
def test_a_straight_block_can_be_repeated_on_any_map(stage_to_rank, m):
    block, period = straight(stage_to_rank)
    table = Table.from_slots(repeat(block, period, m), placement=stage_to_rank)
    check(table)
    assert period == 2 * max(np.bincount(stage_to_rank))


@pytest.mark.parametrize("p", [1, 2, 3, 4, 7])
def test_one_stage_per_rank_gives_1f1b(p):
    block, period = straight(range(p))
    for m in (1, p, 3 * p):
        mine = squeeze(Table.from_slots(repeat(block, period, m), placement=range(p)))
        assert [mine.order(r) for r in range(p)] == [OneFOneB().table(p, m).order(r) for r in range(p)]


def test_weights_take_what_is_left_with_little_waiting():
    """Slots 4 and 5 of each six are left: both ways wait for two slots in all, and the first stage's W is earlier."""
    block = fill({"F": np.array([0, 1]), "I": np.array([9, 2])}, (0, 0), 6)
    assert block["W"].tolist() == [10, 5]
