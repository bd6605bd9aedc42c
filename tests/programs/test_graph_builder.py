"""Pieces joined to one graph."""

import pytest
import torch

from funpipe._errors import ProgramError
from funpipe._typing import TensorType
from funpipe.graphs import Graph, Node, Ref, check, interpret
from funpipe.programs.graph_builder import GraphBuilder

KIND = TensorType((2,), (1,), torch.float32)
aten = torch.ops.aten


def piece(constant=None):
    """`y = sin(x) + c`, where `c` may be a constant."""
    nodes = (
        Node("sin", aten.sin.default, (Ref("x"),), type=KIND),
        Node("y", aten.add.Tensor, (Ref("sin"), Ref("const.c")), type=KIND, origin="own"),
    )
    constants = {} if constant is None else {"const.c": constant}
    return Graph({"x": KIND, "const.c": KIND}, nodes, {"out": Ref("y"), "in": Ref("x")}, constants)


def builder():
    made = GraphBuilder()
    made.input("batch.x", KIND, "x")
    return made


def test_names_stay_unique():
    made = builder()
    first = made.join(piece(), ["batch.x", "batch.x"], "_mb0", "F0")
    second = made.join(piece(), [first[0], "batch.x"], "_mb0", "F0")
    graph = made.graph({"aux.y": second[0]})
    check(graph)
    assert [(n.name, n.origin) for n in graph.nodes] == [
        ("sin_mb0", "F0"),
        ("y_mb0", "own"),
        ("sin_mb0_1", "F0"),
        ("y_mb0_1", "own"),
    ]
    x = torch.tensor([1.0, 2.0])
    wanted = torch.sin(torch.sin(x) + x) + x
    assert torch.equal(interpret(graph, {"batch.x": x})["aux.y"], wanted)


def test_an_input_that_a_piece_returns_keeps_its_name():
    assert builder().join(piece(), ["batch.x", "batch.x"])[1] == "batch.x"


def test_constants_of_two_pieces():
    made = builder()
    for value in (1.0, 2.0):
        (out, _) = made.join(piece(torch.full((2,), value)), ["batch.x"])
    graph = made.graph({"aux.y": out})
    check(graph)
    assert {n: t[0].item() for n, t in graph.constants.items()} == {"const.c": 1.0, "const.c_1": 2.0}
    assert torch.equal(interpret(graph, {"batch.x": torch.zeros(2)})["aux.y"], torch.full((2,), 2.0))


def test_a_piece_gives_tensors():
    odd = piece().replace(outputs={"out": 3})
    with pytest.raises(ProgramError, match=r"an instruction gives 3, which is no tensor: give tensors alone\."):
        builder().join(odd, ["batch.x", "batch.x"])
