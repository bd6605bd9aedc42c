import torch

from funpipe.graphs import Ref
from funpipe.passes.communication.light import feeders, followers, is_light
from tests.passes.communication.steps import Step, aten


def test_views_copies_and_work_on_one_tensor_are_light():
    step = Step()
    step.leaf("x", 4, 4)
    step.op("t", aten.t.default, "x")
    step.neg("neg", "x")
    step.op("cast", aten._to_copy.default, "x", dtype=torch.float64)
    step.add(aten.cat.default, [Ref("x"), Ref("t")], named="cat")
    step.add(aten.mul.Tensor, Ref("x"), 2, named="twice")
    step.op("add", aten.add.Tensor, "x", "t")
    step.mm("mm", "x", "x")
    step.op("sum", aten.sum.default, "x")
    step.add(aten.zeros.default, [3], named="zeros")
    step.add(aten.rand.default, [3], named="rand")
    step.reduced("0", "x")
    graph = step.graph([])
    assert [n.name for n in graph.nodes if is_light(graph, n)] == ["t", "neg", "cast", "cat", "twice", "zeros"]


def test_feeders_are_for_starts_alone():
    step = Step()
    step.leaf("x", 4, 4)
    step.neg("a", "x")
    step.neg("b", "a")
    step.reduced("b", "b")
    step.neg("c", "x")
    step.reduced("c", "c")
    step.neg("d", "c")
    step.mm("e", "x", "x")
    step.reduced("e", "e")
    step.neg("unread", "x")
    step.neg("given", "x")
    step.reduced("given", "given")
    graph = step.graph(["given"])
    assert feeders(graph) == {"a", "b"}
    assert feeders(graph, lambda node: False) == frozenset()


def test_followers_need_waits_alone():
    step = Step()
    step.leaf("x", 4, 4)
    step.reduced("0", "x")
    step.neg("a", "w0")
    step.op("b", aten.t.default, "a")
    step.op("c", aten.add.Tensor, "x", "w0")
    step.neg("d", "c")
    step.neg("e", "x")
    graph = step.graph([])
    assert followers(graph) == {"a", "b"}
    assert followers(graph, lambda node: False) == frozenset()
