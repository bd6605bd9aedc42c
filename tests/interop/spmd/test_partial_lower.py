"""Stretches of a graph that are compiled."""

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe.interop.spmd.graph_optimization import iter_move_grads_and_optimizers, remove_copy_from_optimizer
from funpipe.interop.spmd.iter_graph_module import IterGraphModule
from funpipe.interop.spmd.partial_lower import partial_lower
from funpipe.interop.spmd.rewriting.convert import copied
from tests.interop.spmd.traced_steps import batches, fold, initial, traced

GM = traced(2)


def calls(gm, op):
    return [node for node in gm.graph.nodes if node.op == op]


def chain(x):
    """15 operators."""
    for _ in range(5):
        x = (x * 0.5 + 1).sin()
    return x


def plain(count):
    return fold(lambda *flat, last_iter=False: GM(*flat), initial(2), batches(count))


def close(one, other):
    return all(torch.allclose(a, b, rtol=0, atol=1e-6) for a, b in zip(one, other, strict=True))


def test_forward_and_backward_are_one_stretch():
    gm = partial_lower(copied(GM))
    (call,) = calls(gm, "call_module")
    inside = [node.name for node in gm.subgraph_0._graph.module.graph.nodes]
    outside = [node.name for node in gm.graph.nodes]
    assert {"addmm", "relu_1", "threshold_backward_1"} <= set(inside)
    assert {"all_reduce", "wait_tensor", "_foreach_add", "_fused_adam"} <= set(outside)
    assert [node.name for node in call.all_input_nodes].count("arg0_1") == 0  # its view is made outside


def test_short_stretches_and_unwanted_ones_are_left():
    short = make_fx(lambda x: (x.sin().cos(),), tracing_mode="fake")(torch.ones(2))
    assert calls(partial_lower(short), "call_module") == []
    unwanted = partial_lower(copied(GM), node_predicate=lambda node: node.name != "addmm_1")
    assert all("addmm_1" != n.name for m in unwanted.children() for n in m._graph.module.graph.nodes)
    assert calls(partial_lower(copied(GM), subgraph_predicate=lambda nodes: False), "call_module") == []


def test_a_stretch_has_the_tag_that_the_dumper_gives_it():
    texts = []
    gm = partial_lower(copied(GM), dumper=lambda text: f"tag{len(texts)}" if texts.append(text) is None else "")
    (call,) = calls(gm, "call_module")
    assert call.kwargs == {"tag": "tag1"} and "aten.addmm" in texts[0]


def test_a_number_ends_a_stretch():
    gm = make_fx(lambda x: (chain(chain(x)),), tracing_mode="fake")(torch.ones(2))
    ends = gm.graph.find_nodes(op="call_function", target=torch.ops.aten.sin.default)
    with gm.graph.inserting_after(ends[4]):
        number = gm.graph.call_function(torch.ops.aten._local_scalar_dense.default, (ends[4],))
    gm.graph.find_nodes(op="output")[0].args = ((ends[9], number),)
    partial_lower(gm)
    assert [node.name for node in calls(gm, "call_module")] == ["subgraph_0", "subgraph_1"]
    assert number.args[0].args[0] is calls(gm, "call_module")[0]


def test_random_numbers_are_those_of_the_operator():
    gm = make_fx(lambda x: (chain(chain(x).bernoulli()),), tracing_mode="fake")(torch.ones(2))
    partial_lower(gm)
    assert len(calls(gm, "call_module")) == 2
    assert any(str(node.target) == "aten.bernoulli.default" for node in gm.graph.nodes)


@pytest.mark.full
def test_compiled_steps_are_the_steps():
    module = IterGraphModule(GM, enable_inductor=True)
    module.finalize_setup()
    assert close(fold(module, initial(2), batches(3)), plain(3))


@pytest.mark.full
def test_compiled_steps_with_work_moved_are_the_steps():
    module = IterGraphModule(GM, enable_inductor=True)
    remove_copy_from_optimizer(module)
    iter_move_grads_and_optimizers(module, "all_reduce", "relu")
    module.finalize_setup()
    assert any(node.op == "call_module" for node in module.main_gm.graph.nodes)
    assert close(fold(module, initial(2), batches(3)), plain(3))


def test_a_compiled_stretch_gives_what_its_operators_give():
    x = torch.randn(3, 2)
    gm = make_fx(lambda x: (chain(x), chain(x).t()), tracing_mode="fake")(x)
    lowered = partial_lower(copied(gm))
    assert len(calls(lowered, "call_module")) == 1
    for given in (x, x.t().contiguous().t()):  # the second lies in columns
        for ours, theirs in zip(lowered(given), gm(given), strict=True):
            torch.testing.assert_close(ours, theirs)
