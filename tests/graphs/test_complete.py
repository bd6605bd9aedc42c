import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe._errors import GraphError
from funpipe.graphs.complete import complete


def graph_with(function, *args):
    """A graph in which somebody has inserted a call behind `sin`."""
    gm = make_fx(lambda x: (x.sin(),), tracing_mode="fake")(torch.ones(2, 3))
    (sin,) = gm.graph.find_nodes(op="call_function", target=torch.ops.aten.sin.default)
    with gm.graph.inserting_after(sin):
        return gm.graph, gm.graph.call_function(function, (sin, *args))


def test_what_an_inserted_call_gives_is_found_out():
    graph, call = graph_with(torch.split, 1)
    complete(graph)
    assert [tuple(part.shape) for part in call.meta["val"]] == [(1, 3), (1, 3)]


def test_functions_of_a_user_are_not_called():
    graph, call = graph_with(print)
    complete(graph)
    assert "val" not in call.meta


def test_a_call_that_cannot_run_is_named():
    graph, _ = graph_with(torch.ops.aten.view.default, [5])
    with pytest.raises(GraphError, match=r"'view_default', which was inserted into the graph, cannot take .*Look at"):
        complete(graph)
