import pytest
import torch

from funpipe._errors import GraphError
from funpipe.graphs import Ref, from_fx, interpret, map_refs, refs_in, to_fx
from tests.graphs.made import graph_of

TWO = graph_of(lambda x, y: ((x + y).sin(), x.chunk(2)[1]), torch.ones(4), torch.ones(4))


def test_reads_name_each_value_once():
    squared = graph_of(lambda x: (x * x,), torch.ones(2), inputs=["batch.x"])
    assert squared.nodes[0].reads == ("batch.x",)


def test_references_are_found_and_replaced_at_any_depth():
    value = [Ref("a"), (1, {"k": Ref("b")})]
    assert [ref.name for ref in refs_in(value)] == ["a", "b"]
    assert map_refs(lambda ref: ref.name, value) == ["a", (1, {"k": "b"})]


def test_a_node_reads_other_values_when_renamed():
    node = TWO.node("add").renamed({"x_1": "z"})
    assert node.reads == ("z", "y_1")
    assert TWO.node("add").renamed({"other": "z"}) is TWO.node("add")


def test_readers_and_positions():
    assert [node.name for node in TWO.readers("x_1")] == ["add", "split"]
    assert TWO.positions["add"] == 0


def test_an_unknown_node_is_an_error_with_near_names():
    with pytest.raises(GraphError, match=r"has no node 'ad'; use (one of )?'add'"):
        TWO.node("ad")


def test_fresh_names_are_free():
    assert (TWO.fresh("new"), TWO.fresh("add"), TWO.fresh("x_1")) == ("new", "add_1", "x_1_1")


def test_where_names_operator_and_line():
    node = TWO.node("sin")
    assert node.where == "sin (aten.sin.default)"


def test_there_and_back_through_fx():
    again = from_fx(to_fx(TWO).graph, list(TWO.inputs), list(TWO.outputs))
    assert again.as_text() == TWO.as_text()


def test_a_module_of_a_graph_computes_what_the_graph_does():
    given = {"x_1": torch.arange(4.0), "y_1": torch.ones(4)}
    assert all(map(torch.equal, to_fx(TWO)(*given.values()), interpret(TWO, given).values()))


def test_a_graph_that_calls_a_module_is_refused():
    graph = torch.fx.symbolic_trace(torch.nn.Sequential(torch.nn.ReLU())).graph
    with pytest.raises(GraphError, match=r"is a call_module, and a graph holds calls of operators alone: trace"):
        from_fx(graph)


def test_names_must_fit():
    with pytest.raises(GraphError, match="has 2 inputs, and 1 names were given"):
        from_fx(to_fx(TWO).graph, ["x"])


def test_a_missing_input_is_an_error():
    with pytest.raises(GraphError, match="takes 'y_1', which is not given"):
        interpret(TWO, {"x_1": torch.ones(4)})


def test_what_is_printed_is_short_or_meant_to_be_read():
    assert repr(TWO) == "Graph(2 inputs, 5 nodes, 2 outputs)"
    assert str(TWO.node("add")).startswith("add: float32[4] = aten.add.Tensor(%x_1, %y_1)")
    assert repr(TWO.node("add")).startswith("<Node add (aten.add.Tensor")
