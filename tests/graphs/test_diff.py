from dataclasses import replace

import torch

from funpipe.graphs import Ref, diff
from tests.graphs.made import graph_of

GRAPH = graph_of(lambda x: (x.sin() + x.cos(),), torch.ones(2), inputs=["x"])


def test_equal_graphs_have_no_difference():
    assert diff(GRAPH, GRAPH) == ""


def test_every_kind_of_difference_has_its_sign():
    sin, cos, add = GRAPH.nodes
    new = replace(sin, name="tan", target=torch.ops.aten.tan.default)
    after = GRAPH.replace(nodes=(cos, sin, new, replace(add, args=(Ref("tan"), Ref("cos")))), outputs={"o": Ref("tan")})
    signs = [line[0] for line in diff(GRAPH, after).splitlines()]
    assert sorted(signs) == ["+", ">", "~", "~", "~"]
    assert "return out.0 = nothing (was %add)" in diff(GRAPH, after)


def test_only_what_moved_is_called_moved():
    sin, cos, add = GRAPH.nodes
    assert len(diff(GRAPH, GRAPH.replace(nodes=(cos, sin, add))).splitlines()) == 1
