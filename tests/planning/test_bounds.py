"""No candidate is faster or smaller than its bounds say."""

from hypothesis import given, settings
from hypothesis import strategies as st

from funpipe._errors import ScheduleError
from funpipe.planning.bounds import least_memory, least_memory_of, least_time, least_time_of
from funpipe.planning.candidate import Candidate
from funpipe.planning.cluster import Cluster, Link
from funpipe.planning.defaults import SCHEDULES
from funpipe.planning.load import Load, numbers
from funpipe.planning.predict import Stages

AMOUNT = st.integers(0, 20).map(float)


@st.composite
def random_stages(draw):
    pp, dp, m = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 12))
    schedule = draw(st.sampled_from(SCHEDULES))
    candidate = Candidate(pp, dp, draw(st.integers(0, 3)), schedule, 1, m, "none")
    cluster = Cluster(pp * dp, 1.0, 1e9, Link(draw(st.sampled_from([1.0, 4.0, 1e9])), draw(AMOUNT)), bandwidth=8.0)
    return Stages(candidate, tuple(draw(random_load()) for _ in range(candidate.num_stages)), cluster, 3)


@st.composite
def random_load(draw):
    I, W, saved = draw(AMOUNT), draw(AMOUNT), draw(AMOUNT)
    rest = [draw(AMOUNT) for _ in range(8)]
    return Load(draw(AMOUNT), I + W, I, W, *rest[:4], saved, rest[4], *rest[5:])


def total(loads):
    return Load(*(sum(column) for column in zip(*map(numbers, loads), strict=True)))


@settings(max_examples=150, deadline=None)
@given(random_stages())
def test_the_bounds_are_never_above_the_prediction(stages):
    try:
        found = stages.predict()
    except ScheduleError:  # no such table: nothing to bound
        return
    c, whole = stages.candidate, total(stages.loads)
    assert least_time(stages) <= found.seconds * (1 + 1e-9)
    assert least_time_of(whole, c.pp, c.num_microbatches) <= least_time(stages) * (1 + 1e-9)
    assert least_memory(stages)[0] <= max(found.memory) * (1 + 1e-9)
    assert least_memory_of(whole, c.pp, c.shard, c.dp) <= max(found.memory) * (1 + 1e-9)
