"""Two graphs one after the other."""

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe.graphs import Graph, check, from_fx, interpret
from funpipe.interop.spmd.rewriting.chain import chained


def graph(function, inputs, outputs) -> Graph:
    made = make_fx(lambda *xs: function(*xs), tracing_mode="fake")(*(torch.ones(2) for _ in inputs))
    return from_fx(made.graph, inputs, outputs)


FIRST = graph(lambda w, x: (w * x, (w * x).sum()), ["state.w", "batch.x"], ["state.w", "aux.sum"])
SECOND = graph(lambda w, y: (w * y + 1,), ["state.w", "batch.y"], ["state.w"])


def test_the_second_goes_on_with_what_the_first_gives():
    both = chained(FIRST, SECOND)
    check(both)
    assert list(both.inputs) == ["state.w", "batch.x", "batch.y"] and set(both.outputs) == {"state.w", "aux.sum"}
    w, x, y = torch.randn(3, 2)
    got = interpret(both, {"state.w": w, "batch.x": x, "batch.y": y})
    assert torch.equal(got["state.w"], w * x * y + 1) and torch.equal(got["aux.sum"], (w * x).sum())


@pytest.mark.parametrize("times", [2, 5])
def test_a_graph_after_itself(times):
    whole = SECOND
    for _ in range(times - 1):
        whole = chained(whole, SECOND)
    check(whole)
    given = w, y = torch.randn(2, 2)
    for _ in range(times):
        w = w * y + 1
    assert torch.equal(interpret(whole, {"state.w": given[0], "batch.y": y})["state.w"], w)


def test_an_input_that_the_first_hands_through():
    same = graph(lambda w: (w,), ["state.w"], ["state.w"])
    w, y = torch.randn(2, 2)
    assert torch.equal(interpret(chained(same, SECOND), {"state.w": w, "batch.y": y})["state.w"], w * y + 1)
