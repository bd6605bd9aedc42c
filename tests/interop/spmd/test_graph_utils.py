"""The small functions over graphs."""

import os
from collections import namedtuple

import pytest
import torch
from torch import fx

from funpipe.interop.spmd.errors import SpmdIndexError, SpmdRuntimeError, SpmdValueError
from funpipe.interop.spmd.graph_utils import (
    OP,
    CommType,
    clone_subgraph,
    dump_graphs_to_files,
    find_node,
    get_node_tensor_metadata,
    get_output,
    is_leaf_subgraph,
    rebuild_graph,
)


def chain() -> fx.GraphModule:
    """x → sin → exp → out, and x → cos → out."""
    return fx.symbolic_trace(lambda x: (torch.exp(torch.sin(x)), torch.cos(x)))


def by_name(gm: fx.GraphModule) -> dict[str, fx.Node]:
    return {node.name: node for node in gm.graph.nodes}


def test_kinds_of_nodes_compare_with_those_of_fx():
    assert [node.op for node in chain().graph.nodes] == [OP.PLACEHOLDER, *[OP.CALL_FUNCTION] * 3, OP.OUTPUT]
    assert CommType.ALLREDUCE == "allreduce_"


def test_find_node_gives_all_in_either_order():
    graph = chain().graph
    calls = find_node(graph, lambda n: n.op == OP.CALL_FUNCTION)
    assert [node.name for node in calls] == ["sin", "exp", "cos"]
    assert find_node(graph, lambda n: n.op == OP.CALL_FUNCTION, reverse_order=True) == calls[::-1]


def test_an_item_of_an_empty_search_lists_the_names():
    found = find_node(chain().graph, lambda n: n.name == "tan")
    assert found == [] and not found
    with pytest.raises(SpmdIndexError, match="no node fits; the graph has x, sin, exp, cos, output: ask for one"):
        found[0]


def test_an_item_behind_the_last_says_how_many_there_are():
    with pytest.raises(IndexError, match="1 nodes were found, and item 1 was asked for; use one of 0 to 0"):
        find_node(chain().graph, lambda n: n.name == "sin")[1]


def test_get_output():
    gm = chain()
    assert get_output(gm.graph).op == "output"
    with pytest.raises(SpmdRuntimeError, match="Cannot find the output node in"):
        get_output(fx.Graph())


def test_a_subgraph_is_a_leaf_if_only_the_output_reads_it():
    gm = chain()
    nodes = by_name(gm)
    assert is_leaf_subgraph(gm.graph, [nodes["exp"]])
    assert is_leaf_subgraph(gm.graph, [nodes["sin"], nodes["exp"]])
    assert not is_leaf_subgraph(gm.graph, [nodes["sin"]])


def test_clones_read_clones():
    gm = chain()
    nodes = by_name(gm)
    first, second = clone_subgraph(gm.graph, [nodes["sin"], nodes["exp"]], nodes["cos"])
    assert (first.target, second.target) == (torch.sin, torch.exp)
    assert (first.args, second.args) == ((nodes["x"],), (first,))
    assert [n.name for n in gm.graph.nodes][3:5] == [first.name, second.name]


def test_what_is_no_call_cannot_be_cloned():
    gm = chain()
    with pytest.raises(SpmdValueError, match="'x' is a placeholder and cannot be cloned; leave it out"):
        clone_subgraph(gm.graph, [by_name(gm)["x"]], by_name(gm)["cos"])


def test_rebuilding_drops_what_nothing_reads_if_asked_to():
    gm = chain()
    with gm.graph.inserting_before(get_output(gm.graph)):
        gm.graph.call_function(torch.tan, (by_name(gm)["x"],))
    rebuild_graph(gm, remove_dead_code=False)
    assert "tan" in gm.code
    rebuild_graph(gm)
    assert "tan" not in gm.code


def test_metadata_is_what_was_traced():
    node = by_name(chain())["sin"]
    with pytest.raises(
        RuntimeError, match=r"expects that ``tensor_meta`` exists in ``sin``, but got None instead.*meta"
    ):
        get_node_tensor_metadata(node)
    assert get_node_tensor_metadata(node, is_required=False) is None
    node.meta["val"] = torch.ones(2)
    assert get_node_tensor_metadata(node).shape == (2,)
    node.meta["tensor_meta"] = namedtuple("Meta", "shape")((3,))
    assert get_node_tensor_metadata(node).shape == (3,)


class FakeGraph:
    def __init__(self, postfix: int) -> None:
        self.graph = f"fake graph str {postfix}"

    def __str__(self) -> str:
        return self.graph


def test_dump_graphs():
    folder = dump_graphs_to_files({"fake_graph1": FakeGraph(1)})
    assert dump_graphs_to_files({"fake_graph2": FakeGraph(2)}, folder) == folder
    for i in (1, 2):
        path = os.path.join(folder, f"fake_graph{i}.graph")
        with open(path) as file:
            assert file.readline() == f"fake graph str {i}"
        os.remove(path)
    os.rmdir(folder)
