import torch

from funpipe.functional.communication import OPERATORS
from funpipe.graphs import Ref
from funpipe.passes import bucket
from funpipe.passes.communication.alike import key_of, numbers_of, seen
from tests.passes.communication.steps import Step, require_same, starts


def test_arguments_count_by_name():
    """However a start is called."""
    step = Step()
    for name in ("x", "y"):
        step.leaf(name, 4)
    step.add(OPERATORS.reduce_scatter.default, Ref("x"), "sum", "dp", 2, named="p0")
    step.add(OPERATORS.reduce_scatter.default, Ref("y"), named="p1", size=2, axis="dp", reduce="sum")
    for i in range(2):
        step.wait(f"w{i}", f"p{i}")
    graph = step.graph(["w0", "w1"])
    first, second = graph.node("p0"), graph.node("p1")
    assert list(numbers_of(second).items()) == [("reduce", "sum"), ("axis", "dp"), ("size", 2)]
    assert key_of(graph, first) == key_of(graph, second)
    for order in (graph, graph.replace(nodes=(second, first, *graph.nodes[2:]))):
        made = bucket()(order)
        assert len(starts(made)) == 1
        require_same(graph, made)


def test_dtypes_and_axes_differ():
    step = Step()
    step.leaf("x", 4)
    step.leaf("y", 4, dtype=torch.float64)
    step.reduce("a", "x")
    step.reduce("b", "x", axis="pp")
    step.reduce("c", "y")
    step.reduce("d", "x", reduce="max")
    graph = step.graph([])
    assert len({key_of(graph, node) for node in graph.nodes}) == 4


def test_what_the_caller_or_another_rank_sees():
    step = Step()
    for name in ("state.a", "b", "c", "d"):
        step.leaf(name, 4)
        step.neg(f"n.{name}", name)
    step.add(OPERATORS.send.default, Ref("n.c"), 0, named="send")
    graph = step.graph(["n.b"])
    graph = graph.replace(outputs={**graph.outputs, "state.a": Ref("n.state.a")})
    assert seen(graph) == {"n.b", "b", "send", "n.c", "c"}
