"""Any communication passes, in any order, on any graph: the same bits on all ranks."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funpipe.graphs import Graph
from funpipe.graphs.communication import channels
from funpipe.passes import Pass, RooflineStep, bucket, dedupe, hoist_starts, prefetch_gathers, schedule, sink_waits
from funpipe.passes.communication.weights_last import weights_last
from tests.passes.communication.costs import Drawn
from tests.passes.communication.steps import applied, require_same
from tests.passes.random_graphs import random_graph, random_pipeline

PASSES: tuple[Callable[[Random], Pass], ...] = (
    lambda r: bucket(r.choice([1, 40, 200]), r.choice([1, 100, 400]), "concat", r.choice(["before", "after"])),
    lambda r: bucket(r.choice([1, 40, 200]), r.choice([1, 100, 400]), "coalesced", r.choice(["before", "after"])),
    lambda r: dedupe(),
    lambda r: hoist_starts(),
    lambda r: sink_waits(),
    lambda r: sink_waits(RooflineStep(link=r.choice([1e5, 1e6]))),
    lambda r: schedule(Drawn(), growth=r.choice([0.0, 0.5, 9.0])),
    lambda r: prefetch_gathers(r.choice([1, 2])),
    lambda r: prefetch_gathers(None, r.choice([1, 300])),
    lambda r: weights_last(),
)

SEEDS = st.integers(0, 2**32)


def sequence(random: Random) -> list[Pass]:
    """One to four passes."""
    return [random.choice(PASSES)(random) for _ in range(random.randrange(1, 5))]


def through(passes: list[Pass], graph: Graph) -> Graph:
    """What the passes make, each verified."""
    for each in passes:
        graph = applied(each, graph)
    return graph


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_a_step_of_replicas_keeps_its_bits(seed):
    random = Random(seed)
    graph = random_graph(random)
    require_same(graph, through(sequence(random), graph), seed)


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_a_pipeline_keeps_its_bits_and_does_not_deadlock(seed):
    """Each rank's graph is rewritten without a look at the other's."""
    random = Random(seed)
    first, last = random_pipeline(random)
    passes = sequence(random)
    new_first, new_last = through(passes, first), through(passes, last)
    require_same([first, last, first, last], [new_first, new_last, new_first, new_last], seed)


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_in_a_pipeline_the_order_that_other_ranks_rely_on_stays(seed):
    random = Random(seed)
    first, _ = random_pipeline(random)
    before, after = channels(first), channels(through(sequence(random), first))
    for channel in {"messages", "pp", "world"} & before.keys():
        assert after[channel] == before[channel]


@pytest.mark.full
def test_many():
    for seed in range(1000):
        test_a_step_of_replicas_keeps_its_bits.hypothesis.inner_test(seed)
        test_a_pipeline_keeps_its_bits_and_does_not_deadlock.hypothesis.inner_test(seed)
