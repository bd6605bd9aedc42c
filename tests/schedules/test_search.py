import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funpipe._errors import ScheduleError
from funpipe.schedules import ZBV, OneFOneB, VHalf, VMin, check, lower_bound, search, simulate
from funpipe.schedules.codes import is_kind
from funpipe.schedules.registry import SCHEDULES
from tests.schedules.asking import Limited

TIMES = st.floats(0.5, 1.5)


def run(table, F, I, W, **more):
    """A simulation in which a rank's stages together take F, I and W."""
    v = table.num_stages // table.num_ranks
    return simulate(table, F=F / v, I=I / v, W=W / v, **more)


def held(table, sim):
    """The largest peak of a rank, in activations of its whole share."""
    return max(sim.peak_activations) * table.num_ranks / table.num_stages


def best_named(p, m, limit, *times):
    """The makespan of the best named schedule with one or two stages per rank that fits; found without `search`."""
    makespans = [float("inf")]
    for schedule in SCHEDULES.values():
        try:
            table = schedule().table(p, m)
        except ScheduleError:
            continue
        sim = run(table, *times)
        if is_kind(table.cells, "B", "I").any() and held(table, sim) <= limit:
            makespans.append(sim.makespan)
    return min(makespans)


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 5), st.integers(1, 9), st.floats(1, 9), TIMES, TIMES, TIMES)
def test_what_is_found_fits_and_is_never_worse_than_a_named_schedule(p, m, limit, F, I, W):
    table = search(p, m, F, I, W, memory_limit=limit, tries=60)
    check(table)
    sim = run(table, F, I, W)
    assert held(table, sim) <= limit
    assert sim.makespan <= best_named(p, m, limit, F, I, W) * (1 + 1e-9)
    assert sim.makespan >= lower_bound(p, m, F, I, W, memory_limit=limit) * (1 - 1e-9)


@pytest.mark.parametrize(("p", "m"), [(2, 4), (4, 7), (4, 8), (8, 16)])
def test_with_equal_times_the_bubble_is_no_larger_than_zbvs(p, m):
    theirs = run(ZBV().table(p, m), 1, 1, 1)
    table = search(p, m, memory_limit=held(ZBV().table(p, m), theirs))
    assert run(table, 1, 1, 1).bubble <= theirs.bubble == (p - 1) / 2


@pytest.mark.parametrize(("schedule", "limit"), [(VMin(), 3), (VHalf(), 4), (OneFOneB(), 6)])
def test_where_times_differ_it_is_better_than_named_schedules(schedule, limit):
    F, I, W = 0.9, 1.4, 0.7
    named, found = schedule.table(6, 12), search(6, 12, F, I, W, memory_limit=limit, tries=400)
    least = lower_bound(6, 12, F, I, W)
    assert held(named, run(named, F, I, W)) <= limit
    assert run(found, F, I, W).makespan - least < 0.9 * (run(named, F, I, W).makespan - least)


@pytest.mark.parametrize(
    ("placement", "m", "limit"), [((0, 1), 2, 1), ((0, 1), 3, 2), ((0, 1, 1, 0), 2, 2), ((0, 1, 1, 0), 2, 4)]
)
@pytest.mark.parametrize("times", [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2)])
def test_small_ones_are_the_best_there_are(placement, m, limit, times):
    per_stage = [[time] * len(placement) for time in times]
    share = limit * 2 / len(placement)
    table = search(2, m, *per_stage, placement=placement, memory_limit=share, tries=400)
    F, I, W = times
    assert simulate(table, F=F, I=I, W=W).makespan == Limited(placement, m, times, limit).best()


def test_the_same_arguments_give_the_same_table():
    first, second = (search(4, 6, 0.7, 1.3, 0.9, memory_limit=2.5, tries=100) for _ in range(2))
    assert first == second


def test_more_tries_are_not_worse():
    few, many = (run(search(5, 9, 1.3, 0.8, 0.6, memory_limit=3, tries=n), 1.3, 0.8, 0.6).makespan for n in (1, 400))
    assert many < few


def test_a_placement_of_ones_own_with_times_of_each_stage():
    placement, F, I, W = (0, 1, 2, 0), [1.0, 2.0, 1.0, 0.5], [1.0, 1.5, 1.0, 2.0], [0.5, 1.0, 1.0, 1.0]
    table = search(3, 6, F, I, W, placement=placement, memory_limit=[2, 3, 2], latency=[0.1, 0.2, 0.3], tries=400)
    assert table.placement == placement
    sim = simulate(table, F=F, I=I, W=W, latency=[0.1, 0.2, 0.3])
    assert all(peak <= limit for peak, limit in zip(sim.peak_activations, (4, 3, 2), strict=True))
    one_f_one_b = simulate(OneFOneB(placement).table(3, 6), F=F, I=I, W=W, latency=[0.1, 0.2, 0.3])
    assert sim.makespan < one_f_one_b.makespan


def test_without_a_split_all_backwards_are_whole():
    table = search(4, 8, 1.0, 1.0, 1.0, split=False, memory_limit=4, tries=400)
    assert not is_kind(table.cells, "I", "W").any()
    assert run(table, 1, 1, 1).makespan <= best_whole(4, 8, 4)


def best_whole(p, m, limit):
    tables = (SCHEDULES[name]().table(p, m) for name in ("gpipe", "1f1b", "eager1f1b", "interleaved1f1b", "loopedbfs"))
    return min(sim.makespan for table in tables if held(table, sim := run(table, 1, 1, 1)) <= limit)


def test_a_whole_backward_that_is_much_cheaper_is_taken():
    table = search(2, 6, F=1.0, I=1.0, W=1.0, B=1.2, tries=200)
    assert is_kind(table.cells, "B").any()
    assert run(table, 1, 1, 1, B=1.2 * 2 / table.num_stages).makespan <= 6 * 2.2 + 1 + 1.2


@pytest.mark.parametrize("stages", [1, 2, 3, (1, 3)])
def test_stages_per_rank_are_as_asked(stages):
    table = search(3, 6, stages_per_rank=stages, tries=40)
    allowed = stages if isinstance(stages, tuple) else (stages,)
    assert table.num_stages // 3 in allowed


def test_tasks_may_take_no_time():
    assert run(search(3, 4, 0.0, 1.0, 0.0, tries=20), 0, 1, 0).makespan == pytest.approx(4 + 1)
    assert run(search(3, 4, 0.0, 0.0, 0.0, tries=20), 0, 0, 0).makespan == 0


def test_latency_counts():
    def makespan(table):
        v = table.num_stages // 4
        return simulate(table, F=1 / v, I=1 / v, W=1 / v, latency=0.5).makespan

    assert makespan(search(4, 8, latency=0.5)) < makespan(search(4, 8, memory_limit=2, tries=1))
    assert makespan(search(4, 8, latency=0.5)) >= lower_bound(4, 8, latency=0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory_limit": 0.5}, r"memory_limit=0.5 cannot be met: .*; the least possible is memory_limit=1\."),
        ({"memory_limit": [1, 0, 1, 1]}, r"memory_limit=\[1, 0, 1, 1\] cannot be met"),
        ({"memory_limit": float("nan")}, "memory_limit=nan cannot be met"),
        ({"memory_limit": [1, 2]}, r"memory_limit has shape \(2,\); pass one number, or 4, one for each rank"),
        ({"F": [1.0] * 8}, "F has one number for each stage; pass placement, the rank of each stage"),
        ({"W": -1.0}, "W=-1.0; pass .* that are finite and not negative"),
        ({"placement": (0, 1, 2, 4)}, "placement has stage 3 on rank 4; use ranks 0 to 3"),
        ({"placement": (0, 1, 3, 3)}, "placement leaves rank 2 without a stage; give it one, or use fewer ranks"),
        ({"placement": (0, 1, 2, 3), "F": [1.0] * 3}, r"F has shape \(3,\); pass one number, or 4, one for each stage"),
        ({"stages_per_rank": 0}, "search: stages_per_rank=0 is below 1; the nearest valid is stages_per_rank=1"),
        ({"stages_per_rank": ()}, "stages_per_rank is empty; pass the numbers to choose from"),
        ({"tries": 0}, "search: tries=0 is below 1; the nearest valid is tries=1"),
        ({"seed": None}, "search: seed=None is not an integer; use seed=0"),
        ({"latency": [1.0] * 3}, "latency has one number for each boundary; pass placement"),
        ({"placement": (0, 1, 2, 3.0)}, r"search: placement=\(0, 1, 2, 3.0\) is no map of stages to ranks"),
    ],
)
def test_what_cannot_be_is_named_with_what_can(options, message):
    with pytest.raises(ScheduleError, match=message):
        search(4, 8, **options)


@pytest.mark.parametrize(("p", "m"), [(0, 1), (1, 0), (1.5, 1)])
def test_sizes_are_integers_from_one_on(p, m):
    with pytest.raises(ScheduleError, match="search: num_"):
        search(p, m)


def test_numbers_of_numpy_are_taken_as_integers():
    numbers = {"num_ranks": np.int64(2), "num_microbatches": np.int32(3), "placement": np.array([0, 1, 0])}
    assert search(**numbers, tries=5) == search(2, 3, placement=(0, 1, 0), tries=5)
    assert lower_bound(**numbers) == lower_bound(2, 3, placement=(0, 1, 0))


def test_limits_just_below_a_whole_number_reach_it():
    table = search(3, 6, memory_limit=np.nextafter(2.0, 0), stages_per_rank=1, tries=20)
    assert held(table, run(table, 1, 1, 1)) == 2
