import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funpipe._errors import ScheduleError
from funpipe.schedules import ZBV, lower_bound, simulate
from funpipe.schedules.search_bound import bound
from tests.schedules.asking import Limited, problem_of

SMALL = [
    *[((0,), m, n) for m in (1, 3) for n in (1, 2)],
    *[((0, 1), m, n) for m in (1, 2, 3) for n in (1, 2)],
    *[((0, 1, 2), m, n) for m in (1, 2) for n in (1, 2)],
    *[(placement, m, n) for placement in ((0, 1, 1, 0), (0, 1, 0, 1)) for m in (1, 2) for n in (2, 3)],
    ((1, 0, 0), 2, 2),
]
TIMES = [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2), (1, 3)]


@pytest.mark.parametrize(("placement", "m", "limit"), SMALL)
def test_no_order_is_below_the_bound(placement, m, limit):
    """Against all orders there are, those that idle by choice included."""
    ranks, stages = max(placement) + 1, len(placement) // (max(placement) + 1)
    for times in TIMES:
        best = Limited(placement, m, times, limit).best()
        split = len(times) == 3
        problem = problem_of(
            placement, m, *(times if split else (times[0], 1, 1)), B=sum(times[1:]), limit=limit, split=split
        )
        assert bound(problem) <= best
        if len(placement) == ranks * stages and split:
            F, I, W = (time * stages for time in times)
            anywhere = lower_bound(ranks, m, F, I, W, memory_limit=limit / stages, stages_per_rank=stages)
            assert anywhere <= bound(problem)


@pytest.mark.parametrize(
    ("placement", "m", "options", "least"),
    [
        ((0,), 3, {"F": 1, "I": 2, "W": 3}, 18),  # one rank has only its work
        ((0, 1), 1, {"F": 1, "I": 2, "W": 3}, 1 + 1 + 2 + 2 + 3),  # one microbatch: through, and the first stage's W
        ((0, 1), 4, {"F": 1, "I": 1, "W": 1}, 1 + 12),  # rank 1 begins after one F
        ((0, 1), 4, {"F": 1, "I": 1, "W": 1, "latency": 5}, 21),  # latency before it and after its last I: 5 + 5 - W
        (
            (0, 1),
            4,
            {"F": 1, "I": 1, "W": 1, "limit": 1},
            4 * (1 + 1 + 1 + 1 + 1),
        ),  # one activation at a time on rank 0
        ((0, 1), 4, {"F": 1, "B": 2, "split": False}, 1 + 12 + 2),  # nothing to do on rank 1 in the last B of rank 0
        ((0, 1), 4, {"F": 1, "B": 1.5}, 1 + 4 * 2.5),  # a whole backward is cheaper than its parts
    ],
)
def test_the_bound_by_hand(placement, m, options, least):
    assert bound(problem_of(placement, m, **options)) == least


def test_a_schedule_reaches_it():
    sim = simulate(ZBV().table(4, 8), F=0.5, I=0.5, W=0.5)
    assert sim.makespan == lower_bound(4, 8) == lower_bound(4, 8, placement=(0, 1, 2, 3, 3, 2, 1, 0))


@given(st.floats(0.5, 1.5), st.floats(0.5, 1.5), st.floats(0.5, 1.5), st.integers(1, 6), st.integers(1, 20))
@settings(max_examples=20)
def test_less_memory_never_lowers_it(F, I, W, p, m):
    bounds = [lower_bound(p, m, F, I, W, memory_limit=limit) for limit in (1, 2, p + 2, 2 * p + 2, None)]
    assert bounds == pytest.approx(sorted(bounds, reverse=True))
    assert bounds[-1] >= m * (F + I + W) * (1 - 1e-9)


def test_more_stages_per_rank_lower_it():
    assert lower_bound(4, 8, stages_per_rank=(1, 2)) == lower_bound(4, 8, stages_per_rank=2)
    assert lower_bound(4, 8, stages_per_rank=1) > lower_bound(4, 8, stages_per_rank=2) > 24


def test_a_limit_below_one_is_an_error():
    with pytest.raises(ScheduleError, match="the least possible is memory_limit=1"):
        lower_bound(2, 2, memory_limit=0.9)
