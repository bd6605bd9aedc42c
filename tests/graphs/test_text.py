import math
import operator

import pytest
import torch

from funpipe._errors import GraphError
from funpipe._typing import TensorType
from funpipe.graphs import Graph, Node, Ref, parse
from funpipe.graphs.text import type_text
from tests.graphs.made import graph_of, summed


def everything(x, y):
    half = x.to(torch.float16).t()
    parts = y.chunk(2)
    limited = x.clamp(-math.inf, 3.5)
    return summed(limited), half, torch.cat([parts[0], parts[1]]), torch.full((2,), 1, dtype=torch.int64)


def test_text_reads_back_as_it_was():
    graph = graph_of(everything, torch.ones(2, 3), torch.ones(4), inputs=["state.x", "batch.0.y"])
    assert parse(graph.as_text()).as_text() == graph.as_text()


def test_operators_of_python_read_back():
    text = "n = mul(2, 3)\nhalf = truediv(%n, 4)\nreturn o = %half"
    assert parse(text).as_text() == text
    assert parse(text).nodes[0].target is operator.mul


def test_odd_names_are_quoted_and_read_back():
    kind = TensorType((2,), (1,), torch.float32)
    graph = Graph(
        {"state.a b": kind}, (Node("n", torch.ops.aten.neg.default, (Ref("state.a b"),), type=kind),), {"o-1": Ref("n")}
    )
    assert "%'state.a b'" in graph.as_text()
    assert parse(graph.as_text()).as_text() == graph.as_text()


def test_strides_and_device_show_where_they_are_unusual():
    assert type_text(TensorType((2, 3), (1, 2), torch.float32, "cuda")) == "float32[2,3]:1,2@cuda"


def test_notes_stand_behind_a_node():
    node = Node("n", torch.ops.aten.neg.default, (1,), path="layers.0", source="a.py:3", origin="bucket")
    assert Graph({}, (node,), {}).as_text() == "n = aten.neg.default(1)  # layers.0  a.py:3  by bucket"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "is no line of a graph"),
        ("a: float32[2 = aten.sin.default()", "is no type"),
        ("a: foo32[2]", r"'foo32\[2\]' is no type"),
        ("a = aten.nosuch.default()", "torch has no operator"),
        ("a = aten.add(1, 2)", "torch has no operator 'aten.add': write its overload"),
        ("a = nosuch(1, 2)", "torch has no operator 'nosuch'"),
        ("a = aten.neg.default(x)", r"'x' are no arguments \('x'\): write %name for a value"),
        ("a = aten.neg.default(%x, [)", "are no arguments"),
        ("a = aten.neg.default(torch.nosuch)", "are no arguments"),
        ("return o = sin(%x", "are no arguments"),
    ],
)
def test_what_is_no_graph_is_an_error(text, said):
    with pytest.raises(GraphError, match=said):
        parse(text)
