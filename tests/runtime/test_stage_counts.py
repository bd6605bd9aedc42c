"""On how many ranks a schedule has how many stages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funpipe._errors import ScheduleError
from funpipe.runtime import stage_counts
from funpipe.runtime.stage_counts import fewest_stages, nearest_counts, ranks_with
from funpipe.schedules import ZBV, FromTable, GPipe, Interleaved1F1B, OneFOneB


@given(st.integers(1, 5), st.integers(1, 40))
def test_the_nearest_are_the_multiples_of_the_stages_per_rank(v, stages):
    schedule, below = Interleaved1F1B(v), stages // v * v
    if stages % v == 0:
        assert ranks_with(schedule, stages) == stages // v
    else:
        assert ranks_with(schedule, stages) is None
        assert nearest_counts(schedule, stages) == ([below] if below else []) + [below + v]


@pytest.mark.parametrize("schedule", [GPipe(stage_to_rank=(0, 1, 2, 0)), FromTable(GPipe().table(4, 4))])
@pytest.mark.parametrize("stages", [2, 9])
def test_a_map_has_one_number_of_stages(schedule, stages):
    assert ranks_with(schedule, stages) is None
    assert nearest_counts(schedule, stages) == [4]
    assert fewest_stages(schedule) == 4


def test_the_fewest_are_those_of_the_first_number_of_ranks():
    assert (fewest_stages(OneFOneB()), fewest_stages(ZBV())) == (1, 2)


def test_more_ranks_than_one_process_plays(monkeypatch):
    monkeypatch.setattr(stage_counts, "MOST_RANKS", 3)
    with pytest.raises(ScheduleError, match="num_ranks"):
        fewest_stages(FromTable(GPipe().table(4, 4)))
