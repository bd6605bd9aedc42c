import torch

from funpipe.stages.sources import Sources, owner_of
from funpipe.tracing import trace

X = torch.ones(4, 3)


def traced_of(loss):
    traced = trace(loss, torch.ones(3, 3), X)
    return {n.name: n for n in traced.graph.nodes}, Sources(traced.graph)


def test_views_and_constants_float():
    nodes, sources = traced_of(lambda p, x: ((x @ p).t() + torch.arange(4) * 2).sum())
    floating = [name for name, n in nodes.items() if sources.floats(n)]
    assert {"t", "arange", "mul"} <= set(floating)
    assert not {"mm", "add", "sum_1"} & set(floating)


def test_leaves_do_not_float():
    nodes, sources = traced_of(lambda p, x: (x @ p).sum())
    assert not sources.floats(nodes["param_"])


def test_sources_look_through_what_floats():
    nodes, sources = traced_of(lambda p, x: ((x @ p.t()).t()[0] + torch.arange(4)).sum())
    assert sources.of(nodes["mm"]) == (nodes["batch_"], nodes["param_"])
    assert sources.of(nodes["add"]) == (nodes["mm"],)


def test_an_item_is_owned_with_what_makes_it():
    nodes, sources = traced_of(lambda p, x: (x @ p).max(1).values.sum())
    assert owner_of(nodes["getitem"]) is nodes["max_1"]
    assert not sources.floats(nodes["getitem"])


def test_an_item_of_a_view_floats():
    nodes, sources = traced_of(lambda p, x: (x @ p).split([1, 2], 1)[1].sum())
    assert sources.floats(nodes["getitem_1"])
    assert sources.anchors([nodes["getitem_1"]]) == [nodes["mm"]]
