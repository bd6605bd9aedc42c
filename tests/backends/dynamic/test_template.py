"""A graph at two sizes becomes one for every size."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe._typing import TensorType
from funpipe.backends.dynamic.skeleton import skeleton
from funpipe.backends.dynamic.template import symbolic, template


def attention(x, w):
    rows, size, width = x.shape
    q = torch.mm(x.reshape(rows * size, width), w).view(rows, size, width)
    weights = torch.bmm(q, x.transpose(1, 2)).masked_fill(torch.ones(size, size).tril() == 0, -1e9).softmax(-1)
    return torch.bmm(weights, q)[:, 1:].mean((0, 1)), q.reshape(-1)


def shifted(x, w):
    return (x[:, 1:] - x[:, :-1]).sum((0, 1)) @ w, torch.arange(x.shape[1])


def traced(function, size):
    given = (torch.randn(2, size, 4, generator=torch.Generator().manual_seed(size)), torch.eye(4))
    module = make_fx(function, tracing_mode="fake")(*given)
    return module, [TensorType.of(t) for t in given], given


@pytest.mark.parametrize("function", [attention, shifted])
@settings(max_examples=10, deadline=None)
@given(size=st.integers(2, 20))
def test_the_graph_for_every_size_computes_what_the_function_does(function, size):
    (one, kinds, _), (other, others, _) = traced(function, 6), traced(function, 9)
    made = template((one.graph, kinds), (other.graph, others))
    assert made is not None and not made.is_fixed and (made.argument, made.dim) == (0, 1)
    module, types, given = traced(function, size)
    text, integers = skeleton(module.graph, types)
    assert text == made.text and made.fits(integers, size)
    for found, expected in zip(symbolic(one, made)(*given), function(*given), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_graph_that_is_the_same_at_both_sizes_needs_no_template():
    one, kinds, _ = traced(attention, 6)
    assert template((one.graph, kinds), (one.graph, kinds)) is None


def test_graphs_of_other_operators_have_no_template():
    (one, kinds, _), (other, others, _) = traced(attention, 6), traced(shifted, 9)
    assert template((one.graph, kinds), (other.graph, others)) is None


def test_an_integer_that_follows_no_size_has_no_template():
    def odd(x, w):
        return x * {6: 1, 9: 44}[x.shape[1]], w

    (one, kinds, _), (other, others, _) = traced(odd, 6), traced(odd, 9)
    assert template((one.graph, kinds), (other.graph, others)) is None


def test_a_size_of_one_is_not_any_size():
    def rows(x, w):
        return (x.reshape(-1, 4) @ w).sum(1), w

    one, other = (make_fx(rows, tracing_mode="fake")(torch.ones(n, 5, 4), torch.eye(4)) for n in (1, 2))
    kinds = [[TensorType.of(torch.ones(n, 5, 4)), TensorType.of(torch.eye(4))] for n in (1, 2)]
    assert template((one.graph, kinds[0]), (other.graph, kinds[1])) is None


def test_another_integer_at_a_third_size_does_not_fit():
    def odd(x, w):
        return x * min(x.shape[1], 10), w

    (one, kinds, _), (other, others, _), (third, types, _) = (traced(odd, n) for n in (6, 9, 12))
    made = template((one.graph, kinds), (other.graph, others))
    assert made is not None and not made.fits(skeleton(third.graph, types)[1], 12)
