"""Graph modules as graphs, and back."""

import pytest
import torch
from torch import fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe.graphs import Graph, Node, Ref
from funpipe.interop.spmd.errors import SpmdValueError
from funpipe.interop.spmd.rewriting.convert import copied, graph_of, write_back
from tests.interop.spmd.traced_steps import traced


def test_names_of_inputs_and_outputs_are_those_in_meta():
    gm = traced(1)
    graph = graph_of(gm)
    assert tuple(graph.inputs) == gm.meta["inputs"] and tuple(graph.outputs) == gm.meta["outputs"]
    assert graph.inputs["state.params.0.weight"].shape == (8, 8)


def test_without_meta_nothing_is_state():
    graph = graph_of(make_fx(lambda x: {"a": x + 1, "b": [x * 2]}, tracing_mode="fake")(torch.ones(2)))
    assert (list(graph.inputs), list(graph.outputs)) == (["batch.x_1"], ["aux.0", "aux.1"])


def held() -> fx.GraphModule:
    """A module with tensors of its own, one of them read twice."""
    root = nn.Module()
    root.inner = nn.Linear(2, 2)
    graph = fx.Graph()
    x, first, second = graph.placeholder("x"), graph.get_attr("inner.bias"), graph.get_attr("inner.bias")
    total = graph.call_function(
        torch.ops.aten.add.Tensor, (graph.call_function(torch.ops.aten.mul.Tensor, (x, first)), second)
    )
    graph.output({"total": total})
    return fx.GraphModule(root, graph)


def test_tensors_that_a_module_holds_are_constants():
    gm = held()
    graph = graph_of(gm)
    assert list(graph.inputs) == ["batch.x", "const.inner.bias"]
    assert graph.constants["const.inner.bias"] is gm.inner.bias


def test_writing_a_graph_back_changes_nothing():
    gm = traced(2)
    text, nodes = str(gm.graph), list(gm.graph.nodes)
    write_back(gm, graph_of(gm))
    gm.graph.lint()
    assert str(gm.graph) == text and list(gm.graph.nodes) == nodes


def test_what_is_written_runs():
    gm = held()
    graph = graph_of(gm)
    (mul, add) = graph.nodes
    sin = Node("new", torch.ops.aten.sin.default, (Ref("mul_tensor"),))
    made = write_back(gm, graph.replace(nodes=(mul, sin, add.renamed({"mul_tensor": "new"}))))
    gm.recompile()
    x = torch.randn(2)
    assert torch.equal(gm(x)["total"], (x * gm.inner.bias).sin() + gm.inner.bias)
    assert made["mul_tensor"].name == "mul_tensor" and made["new"].name == "sin_default"


def test_what_a_graph_does_not_have_is_erased():
    gm = make_fx(lambda x: (x.sin(), x.cos()), tracing_mode="fake")(torch.ones(2))
    graph = graph_of(gm)
    write_back(gm, graph.replace(nodes=graph.nodes[1:], outputs={"aux.0": Ref("cos"), "aux.1": Ref("batch.x_1")}))
    assert [n.name for n in gm.graph.nodes] == ["x_1", "cos", "output"]


def test_metadata_of_new_nodes_is_their_type():
    gm = make_fx(lambda x: (x.sin(),), tracing_mode="fake")(torch.ones(2))
    graph: Graph = graph_of(gm)
    new = Node("new", torch.ops.aten.cos.default, (Ref("sin"),), type=graph.nodes[0].type)
    made = write_back(gm, graph.replace(nodes=(*graph.nodes, new), outputs={"aux.0": Ref("new")}))
    assert made["new"].meta["val"].shape == (2,)


def test_a_copy_has_a_graph_of_its_own_with_the_same_names():
    gm = traced(1)
    other = copied(gm)
    assert str(other.graph) == str(gm.graph) and other.graph is not gm.graph


def test_names_that_do_not_fit_the_graph():
    gm = traced(1)
    gm.meta["inputs"] = gm.meta["inputs"][:-1]
    with pytest.raises(
        SpmdValueError, match=r"the graph has 9 inputs, and meta\['inputs'\] has 8 names: where a placehol"
    ):
        graph_of(gm)
    gm = traced(1)
    gm.meta["outputs"] = (*gm.meta["outputs"], "aux.1")
    with pytest.raises(SpmdValueError, match=r"the graph has 9 outputs, and meta\['outputs'\] has 10 names"):
        graph_of(gm)
