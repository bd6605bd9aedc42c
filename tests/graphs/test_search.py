import pytest
import torch

import funpipe as fp
from funpipe._errors import FunpipeTypeError, GraphError
from funpipe.graphs import ancestors, closure, diff, find, interpret, one, simulate
from tests.graphs.made import graph_of

GRAPH = graph_of(lambda x, y: (x.sin().exp(), y.cos()), torch.ones(2), torch.ones(2), inputs=["x", "y"])


def test_find_gives_all_in_order_and_none_is_no_error():
    assert [n.name for n in find(GRAPH, lambda n: "x" in n.reads or n.name == "exp")] == ["sin", "exp"]
    assert find(GRAPH, lambda n: False) == ()


def test_one_is_strict():
    assert one(GRAPH, lambda n: n.name == "cos").name == "cos"
    with pytest.raises(GraphError, match="no such relu; use one of"):
        one(GRAPH, lambda n: False, "relu")
    with pytest.raises(GraphError, match=r"has 3 of node \(sin, exp, cos\): take one"):
        one(GRAPH, lambda n: True)


def test_of_many_the_first_are_listed():
    many = graph_of(lambda x: (x.sin().sin().sin().sin().sin().sin(),), torch.ones(2))
    with pytest.raises(GraphError, match=r"has 6 of sine \(sin, sin_1, sin_2, sin_3, sin_4, …\)"):
        one(many, lambda n: True, "sine")


def test_closure_is_all_that_depends_on_the_roots():
    assert [n.name for n in closure(GRAPH, ["x"])] == ["sin", "exp"]
    with pytest.raises(GraphError, match="has no node 'sine'"):
        closure(GRAPH, ["sine", "cosine"])


def test_ancestors_hold_the_inputs():
    assert ancestors(GRAPH, ["exp"]) == {"exp", "sin", "x"}


def test_nodes_may_stand_for_their_names():
    (sin,) = find(GRAPH, lambda n: n.name == "sin")
    assert closure(GRAPH, [sin]) == closure(GRAPH, ["sin"])
    assert ancestors(GRAPH, [sin]) == {"sin", "x"}


def test_what_is_looked_for_must_be_there():
    with pytest.raises(GraphError, match="has no node 'sine'"):
        ancestors(GRAPH, ["sine"])
    with pytest.raises(FunpipeTypeError, match="closure takes several names, and was given 'sin': pass a list"):
        closure(GRAPH, "sin")


@pytest.mark.parametrize(
    "function",
    [
        lambda step: find(step, lambda n: True),
        lambda step: closure(step, ["x"]),
        lambda step: diff(step, step),
        lambda step: interpret(step, {}),
        lambda step: simulate(step, [{}], fp.MeshShape(1)),
        lambda step: step.map(lambda graph: step),
    ],
)
def test_a_step_is_not_its_graph(function):
    step = fp.trace_step(lambda w, x: (w + x, {}), torch.ones(2), torch.ones(2))
    with pytest.raises(FunpipeTypeError, match=r"takes a graph, and was given a Step: pass .* step\.graph\."):
        function(step)
