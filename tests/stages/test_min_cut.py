"""A minimum cut separates, and none separates for less."""

from itertools import product

import hypothesis.strategies as st
from hypothesis import given, settings

from funpipe.stages.min_cut import Network

edges = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 9))


def cost(graph, near):
    return sum(capacity for tail, head, capacity in graph if near[tail] and not near[head])


@given(st.lists(edges, max_size=25))
@settings(max_examples=100, derandomize=True)
def test_no_cut_is_smaller(graph):
    network = Network(7)
    for edge in graph:
        network.edge(*edge)
    near = network.source_side(0, 6)
    assert near[0] and not near[6]
    assert cost(graph, near) == min(cost(graph, (True, *inner, False)) for inner in product([True, False], repeat=5))


def test_of_several_cuts_it_is_the_one_next_to_the_source():
    network = Network(4)
    for tail in range(3):
        network.edge(tail, tail + 1, 10**30)
    assert network.source_side(0, 3) == [True, False, False, False]


def test_a_target_out_of_reach():
    network = Network(3)
    network.edge(0, 1, 5)
    assert network.source_side(0, 2) == [True, True, False]
