"""Who reads what moved work makes."""

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe.graphs import from_fx
from funpipe.interop.spmd.errors import SpmdValueError
from funpipe.interop.spmd.rewriting.readers import (
    late_leaves,
    require_no_reader,
    settled,
    views_of,
    with_views_at_readers,
)


def step(w, v, x):
    """`t` and `t_1` are views of `w`, made long before `mm` reads the second."""
    again = w.t().t()
    y = x.relu() * v
    return (w - 1, v, (y @ again).sum())


GRAPH = from_fx(
    make_fx(step, tracing_mode="fake")(torch.ones(2, 2), torch.ones(2), torch.ones(2, 2)).graph,
    ["state.w", "state.v", "batch.x"],
    ["state.w", "state.v", "aux.loss"],
)
MOVED = frozenset({"sub"})
VIEWS = {"t": "state.w", "t_1": "state.w"}


def test_late_leaves_are_those_that_moved_nodes_make():
    assert late_leaves(GRAPH, MOVED) == {"state.w"}
    assert late_leaves(GRAPH, frozenset({"mul"})) == frozenset()


def test_views_of_views_are_views():
    assert views_of(GRAPH, frozenset({"state.w"})) == VIEWS
    assert views_of(GRAPH, frozenset({"state.v"})) == {}


def test_views_run_with_their_reader():
    ordered = with_views_at_readers(GRAPH, VIEWS)
    assert [n.name for n in ordered.nodes] == ["relu", "mul", "t", "t_1", "mm", "sub", "sum_1"] or [
        n.name for n in ordered.nodes
    ] == ["relu", "mul", "sub", "t", "t_1", "mm", "sum_1"]


@pytest.mark.parametrize("target", ["relu", "mul", "t", "t_1", "mm"])
def test_a_target_up_to_the_reader_is_right(target):
    graph = with_views_at_readers(GRAPH, VIEWS)
    require_no_reader(graph, MOVED, VIEWS, settled(graph, VIEWS, target), target)


def test_a_target_behind_the_reader_names_it():
    graph = with_views_at_readers(GRAPH, VIEWS)
    with pytest.raises(
        SpmdValueError, match=r"^sub cannot be moved .*before 'sum_1': mm \(aten.mm.*reads 'w'.* before 'mm'"
    ):
        require_no_reader(graph, MOVED, VIEWS, "sum_1", "sum_1")


def test_a_target_that_computes_nothing():
    with pytest.raises(SpmdValueError, match="'batch.x' computes nothing that moved work can stand before"):
        settled(GRAPH, VIEWS, "batch.x")
