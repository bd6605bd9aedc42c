import pytest

from funpipe._errors import GraphError
from funpipe.passes.communication.moves import kept_order, late, soon
from tests.passes.communication.steps import Step, aten, names


def two_axes() -> Step:
    """A sum along each axis."""
    step = Step()
    step.leaf("x", 4)
    for axis in ("dp", "pp"):
        step.reduced(f".{axis}", "x", axis=axis)
    return step


def test_starts_of_a_channel_are_in_order_unless_they_may_be_reordered():
    step = Step()
    step.leaf("x", 4)
    for i in range(3):
        step.reduce(f"p{i}", "x")
    graph = step.graph([])
    assert kept_order(graph) == {"p0": set(), "p1": {"p0"}, "p2": {"p1"}}
    assert kept_order(graph, reorders=True) == {"p0": set(), "p1": set(), "p2": set()}
    assert kept_order(graph.replace(pipelined=True), reorders=True)["p1"] == set()


def test_random_operators_keep_their_order():
    step = Step()
    step.leaf("x", 4)
    for i in range(3):
        step.op(f"r{i}", aten.bernoulli.default, "x")
    assert kept_order(step.graph([])) == {"r0": set(), "r1": {"r0"}, "r2": {"r1"}}


def test_soon_and_late_move_the_chosen_alone():
    step = Step()
    step.leaf("x", 4)
    for name, x in (("a", "x"), ("b", "x"), ("c", "a"), ("d", "a"), ("e", "d")):
        step.neg(name, x)
    graph = step.graph([])
    before = kept_order(graph)
    assert names(soon(graph, lambda n: n.name == "d", before)) == "a d b c e"
    assert names(soon(graph, lambda n: n.name in "ab", before)) == "a c d e b", "they read no node"
    assert names(late(graph, lambda n: n.name == "a", before)) == "b a c d e"
    assert names(late(graph, lambda n: n.name in "bc", before)) == "a d e b c"


def test_a_circle_is_an_error():
    graph = two_axes().graph([])
    with pytest.raises(GraphError, match="depends on itself"):
        soon(graph, lambda n: False, {**kept_order(graph), "p.dp": {"w.dp"}})
