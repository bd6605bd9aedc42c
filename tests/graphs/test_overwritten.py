"""Which memory a graph writes to."""

import torch

from funpipe._typing import TensorType
from funpipe.graphs import Graph, Node, Ref
from funpipe.graphs.overwritten import overwritten, owners_of_memory

aten = torch.ops.aten
KIND = TensorType((4,), (1,), torch.float32)


def graph(*nodes: Node) -> Graph:
    return Graph({"state.x": KIND, "batch.y": KIND}, nodes, {"state.x": Ref("state.x")})


def test_a_pure_graph_writes_to_nothing():
    assert overwritten(graph(Node("a", aten.add.Tensor, (Ref("state.x"), Ref("batch.y")), type=KIND))) == frozenset()


def test_writing_to_a_view_is_writing_to_what_it_is_a_view_of():
    row = Node("row", aten.view.default, (Ref("state.x"), [2, 2]), type=TensorType((2, 2), (2, 1), torch.float32))
    again = Node("again", aten.t.default, (Ref("row"),), type=TensorType((2, 2), (1, 2), torch.float32))
    write = Node("write", aten.mul_.Tensor, (Ref("again"), 2), type=again.type)
    made = graph(row, again, write)
    assert overwritten(made) == {"state.x"}
    assert owners_of_memory(made) == {"row": "state.x", "again": "state.x", "write": "state.x"}


def test_every_list_that_an_update_writes_to_counts():
    update = Node("u", aten._foreach_add_.List, ([Ref("state.x"), Ref("batch.y")], [Ref("batch.y"), Ref("batch.y")]))
    assert overwritten(graph(update)) == {"state.x", "batch.y"}
