"""Views and rows of the batch at the border."""

import torch

from funpipe._typing import TensorType
from funpipe.graphs import Graph, Node, Ref
from funpipe.passes.rotation import rotated
from funpipe.passes.rotation.views import base_of

aten = torch.ops.aten
KIND = TensorType((2, 3), (3, 1), torch.float32)
TURNED = TensorType((3, 2), (1, 3), torch.float32)


def call(name, target, *args, kind=KIND):
    return Node(name, target, args, type=kind)


def step(*nodes, new, aux):
    return Graph({"state.w": KIND, "batch.x": KIND}, nodes, {"state.w": Ref(new), "aux.y": Ref(aux)})


BOTH = step(
    call("t", aten.t.default, Ref("state.w"), kind=TURNED),
    call("y", aten.neg.default, Ref("t"), kind=TURNED),
    call("tt", aten.t.default, Ref("t")),
    call("new", aten.exp.default, Ref("tt")),
    new="new",
    aux="y",
)


def test_a_view_is_made_again_from_what_owns_its_memory():
    """`tt` moves with `new`; `t`, which `y` reads in this step, is made in both."""
    graphs = rotated(BOTH, {"new"})
    assert list(graphs.carry) == ["carry.state.w"]
    assert [n.name for n in graphs.first.nodes] == ["t", "y"]
    assert [(n.name, n.reads) for n in graphs.flush.nodes] == [
        ("t_again", ("carry.state.w",)),
        ("tt", ("t_again",)),
        ("new", ("tt",)),
    ]


def test_the_base_of_a_view():
    assert base_of(BOTH, "tt") == "state.w"
    assert base_of(BOTH, "y") == "y"
    assert base_of(BOTH, "state.w") == "state.w"


def test_rows_of_the_batch_are_copied():
    """A transposed view keeps its strides."""
    graph = step(
        call("t", aten.t.default, Ref("batch.x"), kind=TURNED),
        call("y", aten.neg.default, Ref("t"), kind=TURNED),
        call("tt", aten.t.default, Ref("t")),
        call("new", aten.add.Tensor, Ref("tt"), Ref("batch.x")),
        new="new",
        aux="y",
    )
    graphs = rotated(graph, {"new"})
    assert {name: kind.stride for name, kind in graphs.carry.items()} == {
        "carry.kept0_tt": (3, 1),
        "carry.kept1_batch_x": (3, 1),
    }
    kept = [n for n in graphs.first.nodes if n.target is aten.clone.default]
    assert [(n.name, n.reads, n.origin) for n in kept] == [
        ("kept0_tt", ("tt",), "rotate"),
        ("kept1_batch_x", ("batch.x",), "rotate"),
    ]


def test_what_is_computed_of_the_batch_is_not_copied():
    graph = step(
        call("y", aten.neg.default, Ref("batch.x")), call("new", aten.exp.default, Ref("y")), new="new", aux="y"
    )
    assert list(rotated(graph, {"new"}).carry) == ["carry.y"]
