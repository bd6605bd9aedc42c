"""Repeated layers are found from the operators alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funpipe.backends.layers import _cuts, layers
from tests.backends.random_graphs import graph_of, layers_of_operations


def pieces(tokens, cuts):
    """The stretches between cuts."""
    ends = [0, *cuts, len(tokens)]
    return [tuple(tokens[low:high]) for low, high in zip(ends, ends[1:], strict=False) if low < high]


def cut(tokens, heavy=None, crossing=None):
    """The stretches of a sequence of tokens; if not said otherwise, all are library calls and all cuts equally good."""
    heavy = [True] * len(tokens) if heavy is None else heavy
    crossing = [0] * (len(tokens) + 1) if crossing is None else crossing
    return pieces(tokens, _cuts(np.array(tokens), heavy, crossing, 0))


@st.composite
def periodic(draw):
    """`(before, body, behind)`: tokens of which the body's occur nowhere else, nor twice."""
    sizes = [draw(st.integers(low, high)) for low, high in ((0, 4), (1, 5), (0, 4))]
    tokens = list(range(100, 100 + sum(sizes)))
    return tokens[: sizes[0]], tokens[sizes[0] : sizes[0] + sizes[1]], tokens[sizes[0] + sizes[1] :]


@given(periodic(), st.integers(2, 9))
def test_a_repeated_body_is_cut_at_each_period(parts, count):
    before, body, behind = parts
    found = cut([*before, *body * count, *behind])
    assert found == [t for t in (tuple(before), *[tuple(body)] * count, tuple(behind)) if t]


@given(periodic(), st.integers(3, 9), st.data())
def test_cuts_lie_where_the_fewest_values_cross(parts, count, data):
    before, body, behind = parts
    best = data.draw(st.integers(0, len(body) - 1))
    tokens = [*before, *body * count, *behind]
    crossing = [0 if (i - len(before)) % len(body) == best else 1 for i in range(len(tokens) + 1)]
    found = cut(tokens, crossing=crossing)
    turned = (*body[best:], *body[:best])
    assert found.count(turned) >= count - 1
    assert sum(found, ()) == tuple(tokens)


@given(periodic(), st.integers(3, 9), st.integers(1, 9), st.data())
def test_more_periods_are_not_more_different_stretches(parts, count, more, data):
    before, body, behind = parts
    weights = data.draw(st.lists(st.integers(0, 3), min_size=len(body), max_size=len(body)))
    kinds = []
    for periods in (count, count + more):
        tokens = [*before, *body * periods, *behind]
        crossing = [weights[(i - len(before)) % len(body)] for i in range(len(tokens) + 1)]
        kinds.append(set(cut(tokens, crossing=crossing)))
    assert kinds[0] == kinds[1]


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 3)), max_size=30))
@settings(max_examples=200)
def test_any_sequence_is_cut_into_itself(drawn):
    tokens, heavy, crossing = ([d[i] for d in drawn] for i in range(3))
    found = _cuts(np.array(tokens, dtype=int), heavy, [*crossing, 0], 0)
    assert found == sorted(found)
    assert sum(pieces(tokens, found), ()) == tuple(tokens)


@given(periodic(), periodic(), st.integers(2, 6), st.integers(2, 6))
def test_two_sections_with_a_period_each(first, second, once, again):
    body, other = first[1], [t + 1000 for t in second[1]]
    assert cut([*body * once, 7, *other * again]) == [*[tuple(body)] * once, (7,), *[tuple(other)] * again]


@given(periodic(), st.integers(2, 9))
def test_what_has_no_library_call_is_not_cut(parts, count):
    before, body, behind = parts
    tokens = [*before, *body * count, *behind]
    assert cut(tokens, heavy=[False] * len(tokens)) == [tuple(tokens)]


@pytest.mark.parametrize("tokens", [[], [1], [1, 2], [1, 2, 3, 1]], ids=str)
def test_what_is_not_repeated_is_not_cut(tokens):
    assert cut(tokens) == ([tuple(tokens)] if tokens else [])


@given(layers_of_operations, st.integers(1, 5))
@settings(max_examples=20)
def test_the_layers_of_a_graph_are_its_computing_nodes_in_order(operations, depth):
    module, _ = graph_of(operations, depth)
    order = {node: i for i, node in enumerate(module.graph.nodes)}
    found = [node for group in layers(module.graph) for node in group]
    assert found == sorted(set(found), key=order.__getitem__)
    assert all(node.op == "call_function" for node in found)
    assert {n for n in order if "add_" in str(n.target) or "mm" in str(n.target)} <= set(found)
